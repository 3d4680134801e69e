"""The till's file: what is sold, within which limits, and where it listens."""

from pathlib import Path

from msgspec import Struct

from deploy.config import KeySettings
from deploy.toml_file import read_toml
from schemas.command import TOPIC
from schemas.errors import InvalidInput
from tallyroot_gateway.http.config import HttpOptions
from till.desk import Limits
from till.offers import Item


class Answering(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How often one address may ask, and how long a buyer is kept waiting for the session's start."""

    requests_per_minute: int = 120
    answer_within_s: float = 30.0


class Facilitator(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Somebody else's service that sends transfers and pays for gas; `token_file` holds a bearer's token for it."""

    url: str
    token_file: Path | None = None

    def token(self) -> str:
        """The token; empty where there is none. Raises InvalidInput."""
        try:
            return "" if self.token_file is None else self.token_file.read_text("utf-8").strip()
        except (OSError, ValueError):
            raise InvalidInput(f"can't read the facilitator's token in {self.token_file}") from None


class TillConfig(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`gas` is the key of the account that pays for gas: no other role's, and no other process's. With a `facilitator`
    there is none.

    `token_version` is the version of the token's EIP-712 domain, where the token has no `version()`.
    """

    machines: tuple[Item, ...]
    gas: KeySettings = KeySettings()
    facilitator: Facilitator | None = None
    limits: Limits = Limits()
    answering: Answering = Answering()
    http: HttpOptions = HttpOptions(port=8402)
    topic: str = TOPIC
    token_version: str = "1"  # noqa: S105 - no secret
    journal: str = "till.sqlite"


def read_till(path: Path) -> TillConfig:
    """The file. Raises InvalidInput for what it has wrong, without showing a key."""
    found = read_toml(path, TillConfig, "docs/how-to/selling-sessions.md")
    names = [item.machine for item in found.machines]
    if not names or len(set(names)) < len(names):
        raise InvalidInput(f"{path} must name at least one machine, and each once ([[machines]])")
    if found.gas.is_set == (found.facilitator is not None):
        raise InvalidInput(
            f"{path} must say who pays for gas: a key ([gas]: keystore and password_file, signer, or key), or a"
            " [facilitator] with its url"
        )
    return found
