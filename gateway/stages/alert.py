"""Alert: find what is wrong, keep one alert for each cause, and tell the channels what changed."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime
from functools import partial
from typing import Any

from gateway import logs
from gateway.domain.alerts import Cause, Change, Channel, Letter, Severity
from gateway.domain.schedule import RetrySchedule
from gateway.errors import AthanorError, ConfigurationError
from gateway.network import mail, webhook
from gateway.network.destination import StepFailed
from gateway.network.tls import TlsFiles
from gateway.settings import Settings
from gateway.store import alert_messages, alerts
from gateway.store.alert_messages import Message
from gateway.store.causes import causes
from gateway.store.database import Database

_CERTIFICATES_EVERY_S = 3600.0
_LEASE_S = 120.0  # longer than any channel takes
_SCHEDULE = RetrySchedule(first_s=10.0, growth=2.0, longest_s=1800.0)
_SECONDS_A_DAY = 86_400.0

log = logs.get("alert")

Send = Callable[[Letter], None]


class Watch:
    """Keeps the open alerts those of the causes there are; a step of the leading clock.

    `quiet` says until when the quiet hours of each destination last, `full_in_days` when the spool will be full.
    """

    def __init__(
        self,
        database: Database,
        in_force: Callable[[], Settings],
        quiet: Callable[[], Mapping[str, float | None]],
        full_in_days: Callable[[], float | None],
    ) -> None:
        self._database = database
        self._in_force = in_force
        settings = in_force()
        self._quiet = quiet
        self._full_in_days = full_in_days
        self._rules = alerts.Rules(channels(settings), settings.alerts.quiet_s, settings.alerts.remind_hours * 3600.0)
        self._first_seen: dict[str, float] = {}
        self._certificates: list[Cause] = []
        self._certificates_due = 0.0

    def __call__(self) -> None:
        """Look once. Raises Unavailable."""
        with self._database.read() as connection:
            found = causes(connection, self._in_force(), self._quiet(), self._full_in_days())
            lasting = self._lasting([*found, *self._about_certificates()])
            changes = alerts.changes(connection, lasting, self._rules)
        if not changes:
            return
        with self._database.write() as connection:
            alerts.write(connection, changes, self._rules)
        if changes.appeared or changes.gone:
            log.info("alerts changed", appeared=[one.key for one in changes.appeared], resolved=len(changes.gone))

    def forget_old(self) -> None:
        """Delete what was resolved long ago. Raises Unavailable."""
        if days := self._in_force().retention.log_days:
            with self._database.write() as connection:
                alerts.forget(connection, days * _SECONDS_A_DAY)

    def _lasting(self, found: list[Cause]) -> list[Cause]:
        """Those that were there for as long as they have to be."""
        at = time.monotonic()
        self._first_seen = {cause.key: self._first_seen.get(cause.key, at) for cause in found}
        return [cause for cause in found if at - self._first_seen[cause.key] >= cause.grace_s]

    def _about_certificates(self) -> list[Cause]:
        if time.monotonic() >= self._certificates_due:
            self._certificates = list(_certificates(self._in_force()))
            self._certificates_due = time.monotonic() + _CERTIFICATES_EVERY_S
        return self._certificates


def _certificates(settings: Settings) -> Iterator[Cause]:
    sides: dict[str, Any] = {"listener.tls": settings.listener.tls} | {
        f"destinations.{name}.tls": one.tls for name, one in settings.destinations.items()
    }
    files = {place: TlsFiles(tls.certificate, tls.key, tls.ca) for place, tls in sides.items() if tls is not None}
    if settings.web.certificate is not None:
        files["web"] = TlsFiles(settings.web.certificate, settings.web.key)
    for place, one in files.items():
        try:
            needs_somebody = any(one.warnings(datetime.now(UTC)))
        except (AthanorError, OSError):
            needs_somebody = True
        if needs_somebody:
            yield Cause(
                f"certificate:{place}", Severity.WARNING, f"The certificates of {place} need somebody",
                "`athanor doctor` says which file, and what is wrong with it.", "/",
            )  # fmt: skip


def channels(settings: Settings) -> list[Channel]:
    """The ways in which people are told."""
    configured = {Channel.EMAIL: settings.alerts.email, Channel.WEBHOOK: settings.alerts.webhook}
    return [channel for channel, how in configured.items() if how is not None]


def sender_of(settings: Settings, channel: str) -> Send:
    """What sends a letter over a channel; it raises StepFailed. Raises ConfigurationError where there is none."""
    allow_private = settings.alerts.allow_private
    if channel == Channel.EMAIL and (by_mail := settings.alerts.email) is not None:
        return partial(
            mail.send,
            mail.MailAddress(
                by_mail.host, by_mail.port, by_mail.security, by_mail.sender, by_mail.recipients,
                by_mail.user, by_mail.password_file, by_mail.ca, allow_private,
            ),
        )  # fmt: skip
    if channel == Channel.WEBHOOK and (hook := settings.alerts.webhook) is not None:
        return partial(webhook.send, webhook.WebhookAddress(hook.url, hook.secret_file, hook.ca, allow_private))
    known = ", ".join(channels(settings)) or "none"
    raise ConfigurationError(f"alerts: found no channel {channel!r}; expected one of those in the settings: {known}")


def tell(database: Database, settings: Settings, channel: Channel) -> bool:
    """Send the next message of a channel that is due; False when there is none. Raises Unavailable."""
    with database.write() as connection:
        message = alert_messages.claim(connection, channel, _LEASE_S)
    if message is None:
        return False
    try:
        sender_of(settings, channel)(letter_of(message, settings))
    except StepFailed as error:
        again_in_s = _SCHEDULE.wait_s(str(message.message_id), message.attempt) if error.worth_retrying else None
        with database.write() as connection:
            alert_messages.failed(connection, message, str(error), again_in_s)
        log.warning("message not sent", channel=channel, alert=message.alert["id"], reason=str(error))
        return True
    with database.write() as connection:
        alert_messages.sent(connection, message)
    log.info("message sent", channel=channel, alert=message.alert["id"], change=message.change)
    return True


def try_channel(settings: Settings, channel: str) -> StepFailed | None:
    """Send a test message now; at which step that failed, None when it was taken. Raises ConfigurationError."""
    at = time.time()
    letter = Letter(
        f"test-{at:.0f}", f"[{settings.node.ae_title}] Test of alerts",
        "This is a test: alerts of this gateway arrive here.\n",
        {"type": "alert.test", "timestamp": _iso(at), "data": {"node": settings.node.ae_title}},
    )  # fmt: skip
    try:
        sender_of(settings, channel)(letter)
    except StepFailed as error:
        return error
    return None


def letter_of(message: Message, settings: Settings) -> Letter:
    """What is sent of an alert: its words, its times and where its page is; nothing of a patient."""
    about, node = message.alert, settings.node.ae_title
    kind = Change(message.change.partition(" ")[0])
    link = f"{settings.web.public_url}{about['link']}"
    begins = {Change.OPENED: "", Change.RESOLVED: "Resolved: ", Change.REMINDER: "Still: "}[kind]
    lines = [f"{begins}{about['title']}", "", f"Since {_local(about['first_at'])}, {about['severity']}."]
    if kind is Change.RESOLVED:
        lines.append(f"Over since {_local(about['resolved_at'])}.")
    else:
        lines += [f"Affected: {about['times']}.", "", about["advice"]]
    lines += ["", f"See {link}" if settings.web.public_url else f"See {link} on the web port.", ""]
    data = {
        "node": node, "alert": about["id"], "cause": about["cause"], "severity": about["severity"],
        "title": about["title"], "advice": about["advice"], "link": link, "times": about["times"],
        "first_at": _iso(about["first_at"]), "resolved_at": _iso(about["resolved_at"]),
    }  # fmt: skip
    return Letter(
        f"alert-{about['id']}-{message.change.replace(' ', '-')}",
        f"[{node}] {begins}{about['title']}",
        "\n".join(lines),
        {"type": f"alert.{kind}", "timestamp": _iso(time.time()), "data": data},
    )


def _local(at: float | None) -> str:
    return "–" if at is None else datetime.fromtimestamp(at).astimezone().strftime("%Y-%m-%d %H:%M:%S %Z")


def _iso(at: float | None) -> str | None:
    return None if at is None else datetime.fromtimestamp(at, UTC).isoformat(timespec="seconds")
