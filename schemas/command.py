"""Commands to a machine's gateway, on the topic `machine.commands`: its key is the machine's route."""

from typing import Annotated, Literal

from msgspec import UNSET, Meta, Struct, UnsetType

from schemas.units import Count, Id

TOPIC = "machine.commands"

Connector = Annotated[int, Meta(ge=1, le=999)]
Power = Annotated[int, Meta(ge=0, le=10_000_000)]
Card = Annotated[str, Meta(min_length=1, max_length=20)]


class Command(Struct, frozen=True, omit_defaults=True, forbid_unknown_fields=True, kw_only=True):
    """One command, void after `valid_until` (epoch ms). `session` is the till's, and becomes the readings'.

    `start` begins a session, with the card `id_tag` where one is needed; `stop` ends it, or what is open if it names
    none; `limit` holds the machine to `limit_w`.
    """

    machine: Id
    command: Literal["start", "stop", "limit"]
    valid_until: Count
    session: Id | UnsetType = UNSET
    id_tag: Card | UnsetType = UNSET
    connector: Connector = 1
    limit_w: Power | UnsetType = UNSET

    def is_valid(self) -> bool:
        """A start has a session, a limit its watts."""
        if self.command == "start":
            return self.session is not UNSET
        return self.command != "limit" or self.limit_w is not UNSET
