"""A broker that asks who is there: TLS with certificates made on the spot, SCRAM, PLAIN, OAuth, and rights by user.

Its plain listener is the administrator's, for tests to give and take rights. Nothing else is allowed to anybody.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime, timedelta
from pathlib import Path

import trustme
from confluent_kafka.admin import (
    AclBinding,
    AclBindingFilter,
    AclOperation,
    AclPermissionType,
    AdminClient,
    ResourcePatternType,
    ResourceType,
    ScramCredentialInfo,
    ScramMechanism,
    UserScramCredentialUpsertion,
)  # fmt: skip
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)  # fmt: skip

from deploy.stack import kafka_server, processes
from streams.kafka.security import KafkaAddress, Mechanism, Security, client_config

PASSWORD = "the-password-of-"
PLAIN_USER = "plain-user"
_MORE = """
listeners=PLAINTEXT://127.0.0.1:{port},SASL_SSL://127.0.0.1:{sasl},SSL://127.0.0.1:{tls},CONTROLLER://127.0.0.1:{controller}
advertised.listeners=PLAINTEXT://127.0.0.1:{port},SASL_SSL://localhost:{sasl},SSL://localhost:{tls}
listener.security.protocol.map=CONTROLLER:PLAINTEXT,PLAINTEXT:PLAINTEXT,SASL_SSL:SASL_SSL,SSL:SSL
sasl.enabled.mechanisms=SCRAM-SHA-256,SCRAM-SHA-512,PLAIN,OAUTHBEARER
listener.name.sasl_ssl.scram-sha-256.sasl.jaas.config={login}.scram.ScramLoginModule required;
listener.name.sasl_ssl.scram-sha-512.sasl.jaas.config={login}.scram.ScramLoginModule required;
listener.name.sasl_ssl.plain.sasl.jaas.config={login}.plain.PlainLoginModule required user_{plain}="{password}{plain}";
listener.name.sasl_ssl.oauthbearer.sasl.jaas.config={login}.oauthbearer.OAuthBearerLoginModule required \\
  unsecuredLoginStringClaim_sub="broker";
ssl.keystore.type=PEM
ssl.keystore.location=server.pem
ssl.truststore.type=PEM
ssl.truststore.location=ca.pem
listener.name.ssl.ssl.client.auth=required
authorizer.class.name=org.apache.kafka.metadata.authorizer.StandardAuthorizer
super.users=User:ANONYMOUS
"""

Rule = tuple[ResourceType, str, AclOperation]


class SecuredKafka:
    """The broker, its authority and its users."""

    def __init__(self, folder: Path) -> None:
        """Starts it."""
        self.folder = folder
        folder.mkdir(parents=True)
        self.authority = trustme.CA()
        self._write("ca.pem", self.authority.cert_pem.bytes())
        self._serve_as(self.authority.issue_cert("localhost"))
        self._ports = processes.free_ports(4)
        self._server = self._start()
        self.admin = AdminClient(client_config(self.plain))

    @property
    def plain(self) -> str:
        """The administrator's address."""
        return f"127.0.0.1:{self._ports[0]}"

    def stop(self) -> None:
        """Ends the broker."""
        self._server.stop(20.0)

    def certified_anew(self, certificate: trustme.LeafCert) -> None:
        """Starts it again with another certificate."""
        self.stop()
        self._serve_as(certificate)
        self._server = self._start()

    def expired(self) -> trustme.LeafCert:
        """A certificate of yesterday."""
        yesterday = datetime.now().astimezone() - timedelta(days=1)
        return self.authority.issue_cert("localhost", not_before=yesterday - timedelta(days=1), not_after=yesterday)

    def user(self, name: str, mechanism: Mechanism = "SCRAM-SHA-512", rules: Sequence[Rule] = ()) -> KafkaAddress:
        """The address with a new user's properties, who has these rights."""
        if mechanism.startswith("SCRAM"):
            scram = ScramCredentialInfo(getattr(ScramMechanism, mechanism.replace("-", "_")), 4_096)
            made = UserScramCredentialUpsertion(name, scram, f"{PASSWORD}{name}".encode())
            for future in self.admin.alter_user_scram_credentials([made]).values():
                future.result(10)
        self.allow(name, rules)
        password = self._write(f"{name}.password", f"{PASSWORD}{name}\n".encode())
        return self.sasl(sasl_mechanism=mechanism, sasl_username=name, sasl_password_file=password)

    def sasl(self, **properties: object) -> KafkaAddress:
        """The address of the SASL listener, with these properties beside the protocol and the authority."""
        whole = {"security_protocol": "SASL_SSL", "ssl_ca_location": self.folder / "ca.pem"} | properties
        return KafkaAddress(f"localhost:{self._ports[1]}", Security(**whole))  # type: ignore[arg-type]

    def certified(self, name: str, rules: Sequence[Rule] = ()) -> KafkaAddress:
        """The address for a client that shows a certificate of its own."""
        made = self.authority.issue_cert(name, common_name=name, organization_name="o", organization_unit_name="u")
        self.allow(f"CN={name},OU=u,O=o", rules)
        key = self._write(f"{name}.key", made.private_key_pem.bytes())
        chain = self._write(f"{name}.pem", b"".join(blob.bytes() for blob in made.cert_chain_pems))
        security = Security(
            security_protocol="SSL", ssl_ca_location=self.folder / "ca.pem", ssl_key_location=key,
            ssl_certificate_location=chain,
        )  # fmt: skip
        return KafkaAddress(f"localhost:{self._ports[2]}", security)

    def allow(self, name: str, rules: Sequence[Rule]) -> None:
        """Gives a user rights."""
        if rules:
            for future in self.admin.create_acls([_binding(name, *rule) for rule in rules]).values():
                future.result(10)

    def forbid(self, name: str, rule: Rule) -> None:
        """Takes a right away."""
        kind, of, operation = rule
        found = AclBindingFilter(
            kind, of, ResourcePatternType.LITERAL, f"User:{name}", "*", operation, AclPermissionType.ALLOW
        )
        for future in self.admin.delete_acls([found]).values():
            assert len(future.result(10)) == 1

    def _write(self, name: str, content: bytes) -> Path:
        path = self.folder / name
        path.write_bytes(content)
        return path

    def _serve_as(self, certificate: trustme.LeafCert) -> None:
        chain = [blob.bytes() for blob in certificate.cert_chain_pems]
        key = load_pem_private_key(certificate.private_key_pem.bytes(), None)
        plain = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())  # Java reads no other form
        self._write("server.pem", plain + b"".join(chain))

    def _start(self) -> processes.Process:
        port, sasl, tls, controller = self._ports
        text = kafka_server._PROPERTIES.format(host="127.0.0.1", port=port, controller_port=controller)
        more = _MORE.format(
            port=port, sasl=sasl, tls=tls, controller=controller, plain=PLAIN_USER, password=PASSWORD,
            login="org.apache.kafka.common.security",
        )  # fmt: skip
        self._write("server.properties", (text + more).encode())
        self._write("log4j2.properties", kafka_server._LOGGING.encode())
        java = kafka_server._java()
        if not (self.folder / "data" / "meta.properties").exists():
            kafka_server._format(java, self.folder)
        log = self.folder / "server.log"
        process = processes.start([*java, *kafka_server._HEAP, "kafka.Kafka", "server.properties"], self.folder, log)
        processes.await_ready("Kafka", process, lambda: kafka_server._serves(port), log, 60)
        return process


def _binding(name: str, kind: ResourceType, of: str, operation: AclOperation) -> AclBinding:
    literal, allow = ResourcePatternType.LITERAL, AclPermissionType.ALLOW
    return AclBinding(kind, of, literal, f"User:{name}", "*", operation, allow)


@contextmanager
def secured_kafka(folder: Path) -> Iterator[SecuredKafka]:
    """A broker that is ended after use."""
    broker = SecuredKafka(folder)
    try:
        yield broker
    finally:
        broker.stop()
