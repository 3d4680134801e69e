"""What a gateway's spool must still say after its process was killed anywhere."""

from collections.abc import Sequence
from pathlib import Path

import msgspec

from tallyroot_gateway import Reading
from tallyroot_gateway.spool import BOOT_UNIT_MS, BOOTS_BEGIN_MS, Spool

NOW_MS = BOOTS_BEGIN_MS + 1_000 * BOOT_UNIT_MS + 777


def check_after_kill(folder: Path, returned: Sequence[Reading], acknowledged: int) -> None:
    """Opens a folder that was left by a kill: of the readings whose `append` returned, Kafka had the first few."""
    again = Spool(folder, "log-1", "site-1", now_ms=NOW_MS + 5)
    rows, _ = again.read(again.acked, 10_000, 1 << 20)
    found = [msgspec.json.decode(row, type=Reading) for row in rows]
    assert again.warnings == []
    # All others are sent, in their order; what Kafka has may be sent again; one may be there that was not returned.
    kept = list(returned[acknowledged:])
    assert [reading for reading in found if reading in kept] == kept
    for meter in ("energy", "import"):
        number = (again.boot, again.next_seq("m", meter))
        assert all((each.boot, each.seq) < number for each in [*found, *returned] if each.meter == meter)
        last = [each.register for each in [*returned, *found] if (each.meter, each.boot) == (meter, again.boot)]
        if last:
            assert again.last_register("m", meter) == last[-1]
    again.close()
