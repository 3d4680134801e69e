"""Signers: a key in the environment, in a keystore, with a service; one signature whichever it is, and no key shown."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from eth_account import Account

from deploy.config import ENVIRONMENT, load_settings
from deploy.data_folder import DataFolder
from deploy.keys import keys_of, private_key
from deploy.machines.operator import Operator
from schemas.errors import InvalidInput
from settlement.chain.remote_signer import RemoteSigner
from settlement.chain.signer import Keys, Role, Signer, development_signer
from streams.core.signature import operator_of
from tests.support.signer_service import SignerService, signer_service

KEY = "5ec2e7" * 10 + "5ec2"
ADDRESS = Account.from_key(KEY).address.lower()
PASSWORD = "the marked password"
TRANSACTION = {
    "to": "0x00000000000000000000000000000000000000AA", "data": b"\x01\x02", "value": 0, "gas": 100_000, "nonce": 0,
    "maxFeePerGas": 2_000_000_000, "maxPriorityFeePerGas": 0, "chainId": 8_453, "type": 2,
}  # fmt: skip
SIGNED = Account.sign_transaction(TRANSACTION, KEY)


@pytest.fixture
def service() -> Iterator[SignerService]:
    with signer_service(KEY) as running:
        yield running


@pytest.fixture
def keystore(tmp_path: Path) -> Path:
    path = tmp_path / "poster.json"
    path.write_text(json.dumps(Account.encrypt(KEY, PASSWORD, iterations=2)))
    (tmp_path / "password").write_text(PASSWORD + "\n")
    return path


def test_every_kind_of_key_gives_the_same_bytes(service: SignerService, keystore: Path) -> None:
    for signer in (Signer.from_key(KEY), Signer.from_keystore(keystore, PASSWORD), RemoteSigner(service.url, ADDRESS)):
        assert signer.address == ADDRESS
        assert signer.sign(TRANSACTION) == (bytes(SIGNED.raw_transaction), "0x" + bytes(SIGNED.hash).hex())
        assert KEY not in repr(signer)


def test_a_service_is_shown_the_record_that_it_signs(service: SignerService) -> None:
    """It signs the document; the digest that another implementation makes of it is the one that the log checks."""
    value = b'{"machine":"charger-1"}'
    record = ("log-1", "depot-1", "machine.registered", value)
    signature = Operator(RemoteSigner(service.url, ADDRESS)).sign_record(*record)
    assert operator_of(signature, *record[:3], "application/json", value) == ADDRESS
    (question,) = service.asked
    assert question["typed_data"]["message"]["value"] == "0x" + value.hex()


def test_a_service_is_shown_the_transaction_that_it_signs(service: SignerService) -> None:
    """It signs the fields; the bytes are those of the digest."""
    raw, _ = RemoteSigner(service.url, ADDRESS).sign(TRANSACTION)
    assert raw == bytes(SIGNED.raw_transaction)
    (question,) = service.asked
    assert "typed_data" not in question
    assert question["transaction"]["nonce"] == hex(TRANSACTION["nonce"])


def test_a_service_elsewhere_is_only_asked_over_tls() -> None:
    with pytest.raises(InvalidInput, match=r"the signer at http://kms\.example is asked without TLS: give it an https"):
        RemoteSigner("http://user:secret@kms.example/sign", ADDRESS)
    RemoteSigner("https://kms.example/sign", ADDRESS)


@pytest.mark.parametrize("form", ["der", "raw", "pair"])
def test_a_service_s_high_s_and_missing_v_are_mended(service: SignerService, form: str) -> None:
    service.form = form
    signer = RemoteSigner(service.url, ADDRESS)
    for number in range(20):  # both parities, and integers of 31 to 33 bytes
        transaction = TRANSACTION | {"nonce": number}
        raw, _ = signer.sign(transaction)
        assert raw == bytes(Account.sign_transaction(transaction, KEY).raw_transaction)
    assert {question["address"] for question in service.asked} == {ADDRESS}


def test_a_creation_without_a_recipient_is_signed(service: SignerService) -> None:
    creation = {name: value for name, value in TRANSACTION.items() if name != "to"}
    assert RemoteSigner(service.url, ADDRESS).sign(creation)[0] == bytes(
        Account.sign_transaction(creation, KEY).raw_transaction
    )


@pytest.mark.parametrize(
    "answer",
    [b"", b"[]", b"7", b"{}", b'{"signature": "0x"}', b'{"signature": "0x30"}', b'{"signature": "no hex"}',
     b'{"signature": 5}', b'{"r": "0x1"}', b'{"r": "1", "s": "x"}', b'{"signature": "0x3006020101020201"}'],
)  # fmt: skip
def test_what_is_no_signature_is_told_in_one_line(service: SignerService, answer: bytes) -> None:
    service.form = answer
    with pytest.raises(InvalidInput, match=r"^the signer at http://127\.0\.0\.1:\d+ returns no signature"):
        RemoteSigner(service.url, ADDRESS).sign(TRANSACTION)


def test_a_service_that_signs_for_another_is_refused(service: SignerService) -> None:
    other = development_signer(1).address
    with pytest.raises(InvalidInput, match="signs with another key than that of 0x7099"):
        RemoteSigner(service.url, other).sign(TRANSACTION)
    for nothing in (b'{"r": "0x0", "s": "0x0"}', b'{"r": "-0x1", "s": "0x5"}'):
        service.form = nothing
        with pytest.raises(InvalidInput, match="signs with another key"):
            RemoteSigner(service.url, ADDRESS).sign(TRANSACTION)


def test_a_service_that_fails_is_named_by_its_host_alone(service: SignerService) -> None:
    secret = service.url.replace("http://", "http://user:credential@") + "/token"
    signer = RemoteSigner(secret, ADDRESS)
    signer.sign(TRANSACTION)
    assert service.credentials == ["Basic dXNlcjpjcmVkZW50aWFs"]
    service.status = 403
    with pytest.raises(InvalidInput, match="HTTP status 403") as refused:
        signer.sign(TRANSACTION)
    with pytest.raises(InvalidInput, match="does not answer") as away:
        RemoteSigner("http://user:credential@127.0.0.1:1/token", ADDRESS).sign(TRANSACTION)
    for caught in (refused, away):
        assert "credential" not in str(caught.value) + repr(signer)
        assert "token" not in str(caught.value)
    with pytest.raises(InvalidInput, match="is not an account"):
        RemoteSigner(service.url, ADDRESS[:-1])


def test_a_keystore_s_faults_show_nothing_of_it(keystore: Path) -> None:
    with pytest.raises(InvalidInput, match="does not open with this password") as caught:
        Signer.from_keystore(keystore, "another")
    assert "another" not in str(caught.value)
    with pytest.raises(InvalidInput, match="can't read the keystore"):
        Signer.from_keystore(keystore.parent / "none.json", PASSWORD)
    with pytest.raises(InvalidInput, match="32 bytes in hex") as caught:
        Signer.from_key(KEY + "5e")
    assert KEY not in str(caught.value)


@pytest.fixture
def environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> pytest.MonkeyPatch:
    """An empty working folder and none of our variables."""
    monkeypatch.chdir(tmp_path)
    for name in ENVIRONMENT:
        monkeypatch.delenv(name, raising=False)
    return monkeypatch


@pytest.mark.parametrize("role", ["admin", "operator", "poster", "auditor", "guardian"])
def test_every_role_can_have_every_kind_of_key(
    environment: pytest.MonkeyPatch, keystore: Path, service: SignerService, role: Role
) -> None:
    name = f"TALLYROOT_{role.upper()}"
    ways = [
        {"KEY": KEY},
        {"KEYSTORE": str(keystore), "PASSWORD_FILE": str(keystore.parent / "password")},
        {"KEYSTORE": str(keystore), "PASSWORD": PASSWORD},
        {"SIGNER": service.url, "ADDRESS": ADDRESS},
    ]
    for way in ways:
        for part, value in way.items():
            environment.setenv(f"{name}_{part}", value)
        settings = load_settings()
        keys = keys_of(settings, 1)
        assert keys.of(role).address == ADDRESS
        assert keys.of(role) is keys.of(role)  # opened once
        assert not any(keys.has(other) for other in ("poster", "auditor") if other != role)
        shown = repr(settings) + str(getattr(settings, role)) + repr(keys.of(role))
        assert KEY not in shown
        assert PASSWORD not in shown
        for part in way:
            environment.delenv(f"{name}_{part}")


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"KEY": KEY, "KEYSTORE": "file"}, "set one of TALLYROOT_POSTER_KEY, TALLYROOT_POSTER_KEYSTORE and"),
        ({"KEYSTORE": "file"}, "TALLYROOT_POSTER_KEYSTORE needs TALLYROOT_POSTER_PASSWORD_FILE"),
        ({"KEYSTORE": "file", "PASSWORD": PASSWORD, "PASSWORD_FILE": "file"}, "PASSWORD_FILE or"),
        ({"SIGNER": "http://127.0.0.1:1"}, "TALLYROOT_POSTER_SIGNER and TALLYROOT_POSTER_ADDRESS go together"),
        ({"ADDRESS": ADDRESS}, "go together"),
        ({"SIGNER": "http://127.0.0.1:1", "ADDRESS": "0x12"}, "must be 0x and 40 hex digits"),
        ({"SIGNER": "kms", "ADDRESS": ADDRESS}, "must start with http"),
    ],
)
def test_settings_of_keys_that_contradict_are_refused(
    environment: pytest.MonkeyPatch, given: dict[str, str], message: str
) -> None:
    for part, value in given.items():
        environment.setenv(f"TALLYROOT_POSTER_{part}", value)
    with pytest.raises(InvalidInput, match=message) as caught:
        load_settings()
    assert KEY not in str(caught.value)
    assert PASSWORD not in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_missing_password_file_and_a_missing_key_are_named(environment: pytest.MonkeyPatch, keystore: Path) -> None:
    environment.setenv("TALLYROOT_POSTER_KEYSTORE", str(keystore))
    environment.setenv("TALLYROOT_POSTER_PASSWORD_FILE", "nowhere")
    keys = keys_of(load_settings(), 1)
    with pytest.raises(InvalidInput, match="can't read the password file nowhere"):
        keys.of("poster")
    with pytest.raises(InvalidInput, match="no key for the auditor: set TALLYROOT_AUDITOR_KEY, TALLYROOT_AUDITOR_KEYS"):
        keys.of("auditor")


def test_the_operator_s_keystore_signs_records_too_and_a_service_can_t(
    environment: pytest.MonkeyPatch, keystore: Path, tmp_path: Path
) -> None:
    environment.setenv("TALLYROOT_OPERATOR_KEYSTORE", str(keystore))
    environment.setenv("TALLYROOT_OPERATOR_PASSWORD", PASSWORD)
    assert DataFolder(tmp_path, load_settings()).operator_key().hex() == KEY
    environment.delenv("TALLYROOT_OPERATOR_KEYSTORE")
    environment.delenv("TALLYROOT_OPERATOR_PASSWORD")
    assert private_key(load_settings().operator) is None
    environment.setenv("TALLYROOT_OPERATOR_SIGNER", "http://127.0.0.1:1")
    environment.setenv("TALLYROOT_OPERATOR_ADDRESS", ADDRESS)
    with pytest.raises(InvalidInput, match="a remote signer can't sign records of the log"):
        DataFolder(tmp_path, load_settings()).operator_key()


def test_on_a_development_chain_every_role_has_the_node_s_key() -> None:
    keys = Keys({}, 31_337)
    assert keys.of("poster").address == development_signer(2).address
    assert keys.has("auditor")
