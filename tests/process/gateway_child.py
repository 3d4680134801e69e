"""A gateway that sends one trip after another and says each number once `send` has returned it, until it is killed."""

import sys

from tallyroot_gateway import Gateway


def main() -> None:
    servers, log_id, spool, key = sys.argv[1:]
    gateway = Gateway(
        servers, log_id=log_id, topic=log_id, route="taxi-1", spool=spool, batch_rows=20, batch_ms=5,
        key_id="gw-1", private_key=bytes.fromhex(key),
    )  # fmt: skip
    while True:
        print(gateway.send("taxi-1", "trips", quantity=1).seq, flush=True)


if __name__ == "__main__":
    main()
