"""JSON-RPC with nodes that may lie, lag, answer nonsense, or too much: the one place that judges an answer.

An answer is judged before anything decodes it: the envelope, then the result by what its method returns. One that is
odd, or no answer at all, is asked for again: with growing pauses, at the next of several nodes. What all of them leave
unanswered raises NodeAway: the same call may succeed later.
"""

import json
import random
import re
import time
from collections import Counter
from collections.abc import Callable, Mapping
from typing import Any
from urllib.parse import urlsplit

import requests
from web3.providers.base import JSONBaseProvider
from web3.types import RPCEndpoint, RPCResponse

from schemas.errors import InvalidInput

LOOPBACK = ("127.0.0.1", "localhost", "::1")
CONNECT_S, ANSWER_S = 10.0, 30.0
"""How long a node may take to take a connection, and for a whole answer however it is sent."""

ANSWER_BYTES_MAX = 64 << 20
TRIES = 4
"""How often a call is made at most at each node before it fails."""

FIRST_PAUSE_S, RETRY_AFTER_MAX_S = 0.2, 5.0
SLOWEST_S = 1.0
"""A node that says it is asked too often is asked at most so seldom."""

TOO_OFTEN = {-32005, -32029, 429}
"""Codes of errors by which providers say that they are asked too often."""

NUMBER_MAX = 1 << 53
"""No block, nonce or amount of gas has a higher number."""

TIME_MAX_S = 253_402_300_800
"""The year 10,000."""

QUANTITY = re.compile(r"0x[0-9a-f]{1,64}", re.IGNORECASE)
DATA = re.compile(r"0x([0-9a-f]{2})*", re.IGNORECASE)
HASH = re.compile(r"0x[0-9a-f]{64}", re.IGNORECASE)
ACCOUNT = re.compile(r"0x[0-9a-f]{40}", re.IGNORECASE)

Check = Callable[[Any, Any], bool]
"""Whether a result fits its parameters."""


class NodeAway(InvalidInput):
    """No node answers, or none sensibly. The same call may succeed later."""


class TooMuchAsked(NodeAway):
    """The answer was too long, in bytes or seconds: a smaller question may be answered."""


class NodeRefuses(InvalidInput):
    """A node answers with an error that is no contract's refusal."""


class _Odd(Exception):
    """Why one attempt brought no answer; `pause_s` is how long the node asked to be left alone."""

    def __init__(self, why: str, pause_s: float = 0.0, *, is_too_much: bool = False) -> None:
        super().__init__(why)
        self.pause_s = pause_s
        self.is_too_much = is_too_much


class RpcCounts:
    """How often each node was asked, and failed to answer, by scheme, host and port: for who watches them."""

    def __init__(self) -> None:
        self.requests: Counter[str] = Counter()
        self.failures: Counter[str] = Counter()


class Nodes(JSONBaseProvider):
    """web3's provider over one node, or several of one chain: the one that answered last is asked first."""

    def __init__(self, urls: str, counts: RpcCounts) -> None:
        """`urls` are separated by commas. All is counted in `counts`."""
        super().__init__()
        self._counts = counts
        self._urls = [url.strip() for url in urls.split(",") if url.strip()]
        self._sessions = {url: _session(url) for url in self._urls}
        self._at = 0
        self._pace_s = self._asked_at = 0.0
        self._chain_ids: dict[str, str] = {}

    @property
    def shown(self) -> str:
        """The node that is asked now: scheme, host and port, since path and user often hold an access key."""
        return shown(self._urls[self._at])

    def make_request(self, method: RPCEndpoint, params: Any) -> RPCResponse:
        """The judged answer. Raises NodeAway once every node was asked TRIES times."""
        pause_s = FIRST_PAUSE_S
        tries = TRIES * len(self._urls)
        for left in range(tries - 1, -1, -1):
            url = self._urls[self._at]
            self._counts.requests[shown(url)] += 1
            try:
                return self._judged(url, method, params)
            except _Odd as odd:
                self._counts.failures[shown(url)] += 1
                if not left or (odd.is_too_much and _may_shrink(method, params)):
                    raise self._away(url, method, odd) from None
                self._at = (self._at + 1) % len(self._urls)
                if self._at == 0 or odd.pause_s:
                    time.sleep(max(odd.pause_s, pause_s) * (1 + random.random()))  # noqa: S311 - no secret
                    pause_s *= 2
        raise AssertionError("unreachable")

    def _judged(self, url: str, method: str, params: Any) -> RPCResponse:
        self._require_same_chain(url)
        answer = self._answer(url, method, params)
        if "error" in answer:
            return answer  # web3 makes an exception of it
        check = RESULTS.get(method)
        if check is not None and not check(answer["result"], params):
            raise _Odd(f"an odd result for {method}")
        return answer

    def _require_same_chain(self, url: str) -> None:
        """Raises InvalidInput where one of several nodes serves another chain than the first."""
        if len(self._urls) == 1 or url in self._chain_ids:
            return
        answer = self._answer(url, "eth_chainId", [])
        found = str(answer.get("result"))
        if not _is_quantity(found, ()):
            raise _Odd("an odd result for eth_chainId")
        others = set(self._chain_ids.values()) - {found}
        if others:
            raise InvalidInput(
                f"{shown(url)} serves chain {int(found, 16)}, the other nodes chain {int(others.pop(), 16)}: let"
                " CHAIN_RPC_URL name nodes of one chain"
            )
        self._chain_ids[url] = found

    def _answer(self, url: str, method: str, params: Any) -> RPCResponse:
        wait_s = self._asked_at + self._pace_s - time.monotonic()
        if wait_s > 0:
            time.sleep(wait_s)
        self._asked_at = time.monotonic()
        asked = self.encode_rpc_request(RPCEndpoint(method), params)
        content = self._post(url, asked)
        try:
            answer = json.loads(content.decode())
        except (ValueError, RecursionError):
            raise _Odd("no JSON") from None
        if not isinstance(answer, dict) or answer.get("id") != json.loads(asked)["id"]:
            raise _Odd("an answer to another question")
        if answer.get("error") is not None:
            return self._error(answer)
        if "result" not in answer:
            raise _Odd("neither a result nor an error")
        answer.pop("error", None)
        self._pace_s /= 2
        return answer  # type: ignore[return-value]

    def _error(self, answer: Mapping[str, Any]) -> RPCResponse:
        error = answer["error"]
        if not isinstance(error, dict) or not isinstance(error.get("message"), str):
            raise _Odd("an error without a message")
        code = error.get("code")
        if code in TOO_OFTEN:
            self._slow_down()
            raise _Odd(f"it is asked too often ({error['message'][:100]})")
        if not isinstance(code, int):
            error["code"] = -32603
        return {"jsonrpc": "2.0", "id": answer["id"], "error": error}  # type: ignore[typeddict-item]

    def _post(self, url: str, asked: bytes) -> bytes:
        deadline = time.monotonic() + ANSWER_S
        try:
            with self._sessions[url].post(
                url,
                data=asked,
                headers={"Content-Type": "application/json"},
                timeout=(CONNECT_S, ANSWER_S),
                stream=True,
            ) as response:
                if response.status_code != requests.codes.ok:
                    raise self._refused(response)
                parts, size = [], 0
                for part in response.iter_content(1 << 16):
                    parts.append(part)
                    size += len(part)
                    if size > ANSWER_BYTES_MAX:
                        raise _Odd(f"more than {ANSWER_BYTES_MAX >> 20} MiB", is_too_much=True)
                    if time.monotonic() > deadline:
                        raise _Odd(f"no whole answer within {ANSWER_S:.0f} s", is_too_much=True)
                return b"".join(parts)
        except requests.ReadTimeout:
            raise _Odd(f"no answer within {ANSWER_S:.0f} s", is_too_much=True) from None
        except (requests.RequestException, ValueError, OSError) as error:
            raise _Odd(type(error).__name__) from None

    def _refused(self, response: requests.Response) -> _Odd:
        status = f"HTTP status {response.status_code}"
        if response.status_code != requests.codes.too_many_requests:
            return _Odd(status)
        self._slow_down()
        after = response.headers.get("Retry-After", "")
        pause_s = min(float(after), RETRY_AFTER_MAX_S) if after.isascii() and after.isdigit() else 0.0
        return _Odd(f"{status}: it is asked too often", pause_s)

    def _slow_down(self) -> None:
        self._pace_s = min(SLOWEST_S, max(0.05, 2 * self._pace_s))

    def _away(self, url: str, method: str, odd: _Odd) -> NodeAway:
        where, why = shown(url), str(odd)
        if "asked too often" in why:
            return NodeAway(f"the EVM node at {where} refuses for now ({why}): wait, or name another in CHAIN_RPC_URL")
        if odd.is_too_much:
            return TooMuchAsked(f"the EVM node at {where} answers {method} with {why}: name another in CHAIN_RPC_URL")
        if why.startswith(("HTTP", "Connect", "ChunkedEncoding")):
            start = "start it with `tallyroot up`, or " if urlsplit(url).hostname in LOOPBACK else ""
            return NodeAway(f"no EVM node answers at {where} ({why}): {start}check CHAIN_RPC_URL")
        return NodeAway(
            f"the server at {where} answers {method} with {why}: it is no EVM node, or ill; name another in"
            " CHAIN_RPC_URL"
        )


def _may_shrink(method: str, params: Any) -> bool:
    """Whether less may be asked: events of fewer blocks."""
    return method == "eth_getLogs" and params[0].get("fromBlock") != params[0].get("toBlock")


def shown(url: str) -> str:
    """Scheme, host and port of a URL: its path and user often hold an access key."""
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.hostname}" + (f":{parts.port}" if parts.port else "")


def _session(url: str) -> requests.Session:
    session = requests.Session()
    session.trust_env = urlsplit(url).hostname not in LOOPBACK  # loopback never goes through a proxy
    return session


# ---------------------------------------------------------------- what each method returns


def _fits(pattern: re.Pattern[str], value: Any) -> bool:
    return isinstance(value, str) and pattern.fullmatch(value) is not None


def _below(limit: int, value: Any) -> bool:
    return _fits(QUANTITY, value) and int(value, 16) < limit


def _is_number(value: Any, _: Any = None) -> bool:
    return _below(NUMBER_MAX, value)


def _is_quantity(value: Any, _: Any) -> bool:
    return _fits(QUANTITY, value)


def _is_data(value: Any, _: Any) -> bool:
    return _fits(DATA, value)


def _is_hash(value: Any, _: Any) -> bool:
    return _fits(HASH, value)


def _is_syncing(value: Any, _: Any) -> bool:
    if not isinstance(value, dict):
        return isinstance(value, bool)
    return all(_is_number(value.get(name, "0x0")) for name in ("currentBlock", "highestBlock"))


def _is_block(value: Any, params: Any) -> bool:
    """A block that was asked for by number has that number; none is null."""
    if value is None:
        return True
    if not isinstance(value, dict) or not _below(TIME_MAX_S, value.get("timestamp")):
        return False
    wanted, number = params[0], value.get("number")
    if wanted == "pending":
        return number is None or _is_number(number)
    if not _is_number(number) or not _fits(HASH, value.get("hash")):
        return False
    has_fee = "baseFeePerGas" not in value or _fits(QUANTITY, value["baseFeePerGas"])
    return has_fee and (not _fits(QUANTITY, wanted) or int(wanted, 16) == int(str(number), 16))


def _is_of_transaction(value: Any, params: Any, name: str) -> bool:
    return isinstance(value, dict) and str(value.get(name)).lower() == str(params[0]).lower()


def _is_receipt(value: Any, params: Any) -> bool:
    if value is None:
        return True
    created = value.get("contractAddress") if isinstance(value, dict) else None
    return (
        _is_of_transaction(value, params, "transactionHash")
        and _is_number(value.get("blockNumber"))
        and _fits(HASH, value.get("blockHash"))
        and _below(2, value.get("status"))
        and (created is None or _fits(ACCOUNT, created))
        and isinstance(value.get("logs"), list)
        and all(map(_is_log, value["logs"]))
    )


def _is_transaction(value: Any, params: Any) -> bool:
    return value is None or _is_of_transaction(value, params, "hash")


def _is_fee_history(value: Any, _: Any) -> bool:
    fees = value.get("baseFeePerGas") if isinstance(value, dict) else None
    return isinstance(fees, list) and bool(fees) and all(_fits(QUANTITY, fee) for fee in fees)


def _is_log(value: Any) -> bool:
    return (
        isinstance(value, dict)
        and _fits(ACCOUNT, value.get("address"))
        and _fits(DATA, value.get("data"))
        and all(_is_number(value.get(name)) for name in ("blockNumber", "logIndex"))
        and all(_fits(HASH, value.get(name)) for name in ("transactionHash", "blockHash"))
        and isinstance(value.get("topics"), list)
        and 0 < len(value["topics"]) <= 4
        and all(_fits(HASH, topic) for topic in value["topics"])
        and value.get("removed") in (None, False)
    )


def _are_logs(value: Any, params: Any) -> bool:
    """Logs of the contract that was asked for, within the blocks, none twice."""
    if not isinstance(value, list) or not all(map(_is_log, value)):
        return False
    asked = params[0]["address"]
    addresses = {address.lower() for address in ([asked] if isinstance(asked, str) else asked)}
    first, last = (int(params[0][name], 16) for name in ("fromBlock", "toBlock"))
    places = [(int(log["blockNumber"], 16), int(log["logIndex"], 16)) for log in value]
    return (
        all(log["address"].lower() in addresses for log in value)
        and all(first <= block <= last for block, _ in places)
        and len(set(places)) == len(places)
    )


RESULTS: dict[str, Check] = {
    "eth_blockNumber": _is_number,
    "eth_call": _is_data,
    "eth_chainId": _is_quantity,
    "eth_estimateGas": _is_number,
    "eth_feeHistory": _is_fee_history,
    "eth_getBalance": _is_quantity,
    "eth_getBlockByNumber": _is_block,
    "eth_getCode": _is_data,
    "eth_getLogs": _are_logs,
    "eth_getTransactionByHash": _is_transaction,
    "eth_getTransactionCount": _is_number,
    "eth_getTransactionReceipt": _is_receipt,
    "eth_maxPriorityFeePerGas": _is_quantity,
    "eth_sendRawTransaction": _is_hash,
    "eth_syncing": _is_syncing,
}
"""By method. What only a development node is asked is taken as it is."""
