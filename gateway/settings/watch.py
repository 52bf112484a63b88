"""Settings of what people see of a node: the web port, metrics, the audit trail, alerts."""

from __future__ import annotations

from typing import Literal, Self

from pydantic import Field, model_validator

from gateway.settings.values import (
    AETitle,
    HookUrl,
    Issuer,
    MailAddress,
    OptionalPath,
    Origin,
    Section,
    SyslogUrl,
    TokenDigest,
    require_both_or_neither,
)


class OpenId(Section):
    """Logging in at the identity provider of the house (OpenID Connect)."""

    issuer: Issuer = Field(description="the provider, exactly as its discovery document names it", max_length=255)
    client_id: str = Field(description="who we are to the provider", min_length=1)
    client_secret_file: OptionalPath = Field(None, description="file that holds the secret of a confidential client")
    ca: OptionalPath = Field(None, description="PEM file: who may sign the provider's certificate, if not a public one")
    scopes: tuple[str, ...] = Field(("openid", "profile"), description="what is asked for; openid has to be among them")
    groups_claim: str = Field(
        "groups", description="claim of the ID token that holds the groups; realm_access.roles for one within another"
    )
    name_claim: str = Field("preferred_username", description="claim that names a person at the first login")
    roles: dict[str, Literal["viewer", "operator", "administrator", "auditor"]] = Field(
        description="group = role; of several the first counts, and who is in none does not get in", min_length=1
    )
    button: str = Field("Log in with single sign-on", description="words of the link on the login page", min_length=1)
    passwords: bool = Field(True, description="whether people who have a password here may log in with it")

    @model_validator(mode="after")
    def _asks_for_openid(self) -> Self:
        if "openid" not in self.scopes:
            raise ValueError("found scopes without openid; expected it among them, or there is no ID token")
        return self


class Web(Section):
    """The web port: STOW-RS intake."""

    enabled: bool = Field(False, description="run the web process")
    address: str = Field("127.0.0.1", description="address to listen on; 0.0.0.0 for all interfaces")
    port: int = Field(8080, description="TCP port", ge=0, le=65535)
    certificate: OptionalPath = Field(None, description="PEM file: our certificate and its chain, for https")
    key: OptionalPath = Field(None, description="PEM file: the private key, without passphrase")
    max_connections: int = Field(64, description="connections at a time; more are answered 503", ge=1)
    files_dir: OptionalPath = Field(
        None,
        description="folder that has every file that destinations added on the web may name; empty = they name none",
    )
    senders: dict[AETitle, TokenDigest] = Field(
        default_factory=dict, description="who may store over HTTP: name = what `athanor token NAME` printed"
    )
    public_url: Origin = Field(
        "", description="how people open the pages: https://HOST[:PORT]; a login elsewhere comes back to it"
    )
    oidc: OpenId | None = Field(None, description="logging in at an identity provider; not without this table")

    @model_validator(mode="after")
    def _provider_knows_the_way_back(self) -> Self:
        if self.oidc and not self.public_url:
            raise ValueError("found oidc without public_url; expected https://HOST[:PORT], to which the provider leads")
        return self

    @model_validator(mode="after")
    def _key_belongs_to_certificate(self) -> Self:
        require_both_or_neither(self, "certificate", "key")
        return self


class Metrics(Section):
    """Figures for Prometheus."""

    address: str = Field("127.0.0.1", description="address to listen on; 0.0.0.0 for all interfaces")
    port: int = Field(0, description="first TCP port; each process adds its own number; 0 = no metrics", ge=0, le=65000)


class Audit(Section):
    """The audit trail (PS3.15 A.5)."""

    file: OptionalPath = Field(None, description="file that messages are added to, an XML document a line")
    syslog: SyslogUrl = Field("", description="udp://HOST:514, tcp://HOST:601 or tls://HOST:6514; empty = none")
    ca: OptionalPath = Field(None, description="PEM file: who may sign the certificate of the syslog server")
    certificate: OptionalPath = Field(None, description="PEM file: our certificate, for a server that asks for it")
    key: OptionalPath = Field(None, description="PEM file: the private key, without passphrase")
    patient: bool = Field(False, description="name the patient by Patient ID, as PS3.15 A.5.3 asks for")

    @model_validator(mode="after")
    def _tls_is_whole(self) -> Self:
        require_both_or_neither(self, "certificate", "key")
        if self.syslog.startswith("tls:") and self.ca is None:
            raise ValueError("found tls:// without ca; expected ca, since nobody else says who the server is")
        return self


class Mail(Section):
    """Alerts by e-mail."""

    host: str = Field(description="SMTP server: host name or address", min_length=1)
    port: int = Field(587, description="TCP port: 587 for starttls, 465 for tls, 25 for none", ge=1, le=65535)
    security: Literal["starttls", "tls", "none"] = Field(
        "starttls", description="TLS after a first word, from the start, or not at all"
    )
    ca: OptionalPath = Field(None, description="PEM file: who may sign the server's certificate, if not a public one")
    user: str = Field("", description="who logs in; empty = no login")
    password_file: OptionalPath = Field(None, description="file that holds the password of the user")
    sender: MailAddress = Field(description="address in From")
    recipients: tuple[MailAddress, ...] = Field(description="addresses in To", min_length=1)

    @model_validator(mode="after")
    def _password_is_not_read_on_its_way(self) -> Self:
        require_both_or_neither(self, "user", "password_file")
        if self.user and self.security == "none":
            raise ValueError("found user with security none; expected starttls or tls, or the password can be read")
        return self


class Webhook(Section):
    """Alerts by a signed HTTP POST."""

    url: HookUrl = Field(description="where to, https://HOST[:PORT]/PATH")
    secret_file: OptionalPath = Field(None, description="file that holds the secret of the signature; none = unsigned")
    ca: OptionalPath = Field(None, description="PEM file: who may sign the server's certificate, if not a public one")


class Alerts(Section):
    """Telling people what needs them."""

    quiet_s: float = Field(
        600.0, description="a cause that is back so soon after its end is the same alert, and nobody is told, seconds",
        ge=0,
    )  # fmt: skip
    remind_hours: float = Field(
        24.0, description="what is open for so long and that nobody acknowledged is told again, hours; 0 = never", ge=0
    )
    waiting_s: float = Field(3600.0, description="a job or delivery that waits for so long is an alert, seconds", gt=0)
    allow_private: bool = Field(
        False, description="whether messages may go to loopback and private addresses, such as 10.0.0.0/8"
    )
    email: Mail | None = Field(None, description="alerts by e-mail; none without this table")
    webhook: Webhook | None = Field(None, description="alerts by HTTP POST; none without this table")
