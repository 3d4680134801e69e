"""A gateway that sends trip after trip, and an energy register that begins again every 40 trips, until it is killed.

It prints each trip's boot and number once `send` has returned them.
"""

import sys

from tallyroot_gateway import Gateway


def main() -> None:
    servers, log_id, spool, key = sys.argv[1:]
    gateway = Gateway(
        servers, log_id=log_id, topic=log_id, route="taxi-1", spool=spool, batch_rows=20, batch_ms=5,
        key_id="gw-1", private_key=bytes.fromhex(key),
    )  # fmt: skip
    count = 0
    while True:
        reading = gateway.send("taxi-1", "trips", quantity=1)
        print(reading.boot, reading.seq, flush=True)
        gateway.send("taxi-1", "energy", register=count % 40 // 4, reset=count % 40 == 0)
        count += 1


if __name__ == "__main__":
    main()
