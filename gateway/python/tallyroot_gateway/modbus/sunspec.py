"""What a SunSpec device has: found at one of three addresses, then walked from block to block within bounds."""

from typing import NamedTuple

from tallyroot_gateway.modbus.line import Line, NoAnswer
from tallyroot_gateway.modbus.models import HEADER_WORDS, text_of

BASES = (40_000, 0, 50_000)
"""Where "SunS" may stand, in the order in which it is looked for."""

MARK = [0x5375, 0x6E53]
"""The two registers that say "SunS"."""

MODELS_MAX = 64
LAST = 0xFFFF
"""The number of the model that ends the chain."""

ADDRESSES = 65_536


class Block(NamedTuple):
    """A model of a device: its number, where its header stands, and how many registers follow the header."""

    model: int
    address: int
    length: int


class Identity(NamedTuple):
    """Model 1: what the device says that it is."""

    manufacturer: str = ""
    product: str = ""
    version: str = ""
    serial_number: str = ""


class Chain(NamedTuple):
    """All blocks of a device, in their order; `is_whole` is false where the walk ended before the end of the chain."""

    blocks: list[Block]
    identity: Identity
    is_whole: bool

    def block(self, model: int, occurrence: int = 1) -> Block | None:
        """The n-th block of a model."""
        found = [block for block in self.blocks if block.model == model]
        return found[occurrence - 1] if len(found) >= occurrence else None


async def find_chain(line: Line, unit_id: int, base: int | None = None) -> Chain:
    """A device's chain, at `base` or where one is found. Raises NoAnswer where there is none.

    A chain that breaks off (an address that isn't there, 0 in place of a number) is used as far as it goes.
    """
    start = base if base is not None else await _base_of(line, unit_id)
    if base is not None and await line.read(unit_id, base, len(MARK)) != MARK:
        raise NoAnswer("no_sunspec", f"unit {unit_id} of {line.options.name} has no SunSpec at {base}")
    address, blocks, is_whole = start + len(MARK), list[Block](), False
    while len(blocks) < MODELS_MAX and address + HEADER_WORDS <= ADDRESSES:
        header = await _header(line, unit_id, address)
        if header is None or header[0] in (0, LAST):
            is_whole = header is not None and header[0] == LAST
            break
        model, length = header
        if address + HEADER_WORDS + length > ADDRESSES:
            break
        blocks.append(Block(model, address, length))
        address += HEADER_WORDS + length
    if not blocks:
        raise NoAnswer("no_sunspec", f"unit {unit_id} of {line.options.name} has a SunSpec mark and no model behind it")
    return Chain(blocks, await _identity(line, unit_id, blocks[0]), is_whole)


async def _base_of(line: Line, unit_id: int) -> int:
    for base in BASES:
        try:
            if await line.read(unit_id, base, len(MARK)) == MARK:
                return base
        except NoAnswer as error:
            if not error.reason.startswith("exception_"):
                raise
            if error.reason in ("exception_10", "exception_11"):  # a bridge says that its device is silent
                raise
    raise NoAnswer("no_sunspec", f"unit {unit_id} of {line.options.name} answers, but not as SunSpec does")


async def _header(line: Line, unit_id: int, address: int) -> tuple[int, int] | None:
    """A block's number and length; None where the device has no such address.

    Some devices end their chain with a number and no length: what two registers can't say, one may.
    """
    try:
        model, length = await line.read(unit_id, address, HEADER_WORDS)
    except NoAnswer as error:
        if not error.reason.startswith("exception_"):
            raise
        try:
            (model,) = await line.read(unit_id, address, 1)
        except NoAnswer as again:
            if not again.reason.startswith("exception_"):
                raise
            return None
        return (LAST, 0) if model == LAST else None
    return model, length


async def _identity(line: Line, unit_id: int, block: Block) -> Identity:
    if block.model != 1 or block.length < 64:
        return Identity()
    words = await line.read(unit_id, block.address + HEADER_WORDS, 64)
    return Identity(text_of(words[:16]), text_of(words[16:32]), text_of(words[40:48]), text_of(words[48:64]))
