#!/usr/bin/env python3
"""A consumer of Kickoff's events, to copy: it acts on each event once, whatever comes twice, late or broken, and however
it ends.

All that an event does is one transaction in SQLite: its id, the game's version and the work itself. Only then is the
message acknowledged. A crash in between brings it again, and its id tells that it was handled.
"""

import json
import os
import signal
import sqlite3

import pika

RABBITMQ_URL = os.environ.get("RABBITMQ_URL", "amqp://localhost")
RABBITMQ_EXCHANGE = os.environ.get("RABBITMQ_EXCHANGE", "kickoff.events")
QUEUE = os.environ.get("QUEUE", "example-python")
DATABASE = os.environ.get("DATABASE", "consumer.db")
RETRY_DELAY_MS = int(os.environ.get("RETRY_DELAY_MS", "5000"))

# How often a message may fail before it is parked.
MAX_FAILURES = 5

TABLES = """
CREATE TABLE IF NOT EXISTS handled_events (
    id TEXT NOT NULL PRIMARY KEY,
    handled_at TEXT NOT NULL DEFAULT CURRENT_TIMESTAMP
);
CREATE TABLE IF NOT EXISTS games (
    id TEXT NOT NULL PRIMARY KEY,
    version INTEGER NOT NULL,
    status TEXT NOT NULL,
    title TEXT NOT NULL,
    scheduled_at TEXT NOT NULL
);
CREATE TABLE IF NOT EXISTS announcements (text TEXT NOT NULL);
DELETE FROM handled_events WHERE handled_at < datetime('now', '-90 days');
"""

REMEMBER = "INSERT INTO handled_events (id) VALUES (?) ON CONFLICT DO NOTHING"

# Games that were deleted keep their row: their version is what tells a late event from a new one.
ADVANCE = """
INSERT INTO games (id, version, status, title, scheduled_at)
VALUES (:game_id, :version, :status, :title, :scheduled_at)
ON CONFLICT (id) DO UPDATE
SET version = excluded.version, status = excluded.status, title = excluded.title, scheduled_at = excluded.scheduled_at
WHERE excluded.version >= games.version
"""

ANNOUNCE = "INSERT INTO announcements (text) VALUES (?)"


def handle(database, event):
    """All that an event does; the caller makes it one transaction."""
    if database.execute(REMEMBER, (event["id"],)).rowcount == 0:
        return "duplicate"
    data = event["data"]
    # Events of one change of a game have the same version, so only a lower one is stale.
    if database.execute(ADVANCE, data).rowcount == 0:
        return "stale"
    # Your own work comes here, in the same transaction.
    if event["type"] == "game.started":
        database.execute(ANNOUNCE, (f"{data['title']} begins",))
    if event["type"] == "game.reminder_due":
        database.execute(ANNOUNCE, (f"{data['title']} begins in {data['reminder_minutes']} minutes",))
    return "handled"


def declare(channel):
    """A message that failed rests in the queue for retries until its time is over, then comes back; the broker counts how often."""
    retries = f"{QUEUE}.retries"

    def queue(name, **arguments):
        arguments = {key.replace("_", "-"): value for key, value in arguments.items()}
        channel.queue_declare(name, durable=True, arguments={"x-queue-type": "quorum", **arguments})

    def then_to(routing_key):
        return {
            "x_dead_letter_exchange": retries,
            "x_dead_letter_routing_key": routing_key,
            # Dead letters are moved with confirms, which needs this overflow; otherwise a broker that fails may lose them.
            "x_dead_letter_strategy": "at-least-once",
            "x_overflow": "reject-publish",
        }

    channel.exchange_declare(retries, "direct", durable=True)
    # One consumer at a time keeps the order, however many run. A message that brings them down again and again counts as
    # failed.
    queue(QUEUE, **then_to("wait"), x_single_active_consumer=True, x_delivery_limit=20)
    queue(f"{QUEUE}.wait", **then_to("again"), x_message_ttl=RETRY_DELAY_MS)
    queue(f"{QUEUE}.parked")
    channel.queue_bind(f"{QUEUE}.wait", retries, "wait")
    channel.queue_bind(f"{QUEUE}.parked", retries, "parked")
    channel.queue_bind(QUEUE, retries, "again")
    channel.queue_bind(QUEUE, RABBITMQ_EXCHANGE, "game.*")


def failures_of(properties):
    deaths = (properties.headers or {}).get("x-death", [])
    return sum(death["count"] for death in deaths if death["queue"] == QUEUE)


def park(channel, properties, body):
    """Puts a message where a person finds it, as it came; fails unless the broker has it there."""
    # Moved back into the queue one day, it starts anew.
    headers = {name: value for name, value in (properties.headers or {}).items() if name != "x-death"}
    properties = pika.BasicProperties(
        app_id=properties.app_id,
        content_type=properties.content_type,
        delivery_mode=2,
        headers=headers,
        message_id=properties.message_id,
        timestamp=properties.timestamp,
        type=properties.type,
    )
    channel.basic_publish(f"{QUEUE}.retries", "parked", body, properties, mandatory=True)


def main():
    # Whatever ends this with an exception: whoever runs it starts it again, and what was not acknowledged is delivered
    # again.
    stopping = False

    def stop(*_):
        nonlocal stopping
        stopping = True

    signal.signal(signal.SIGTERM, stop)
    signal.signal(signal.SIGINT, stop)

    database = sqlite3.connect(DATABASE)
    database.executescript(TABLES)
    connection = pika.BlockingConnection(pika.URLParameters(RABBITMQ_URL))
    channel = connection.channel()
    channel.confirm_delivery()
    declare(channel)
    channel.basic_qos(prefetch_count=20)
    print(f"Consuming {QUEUE}", flush=True)

    for method, properties, body in channel.consume(QUEUE, inactivity_timeout=1):
        if stopping:
            break
        if method is None:
            continue
        name = f"{properties.type} {properties.message_id}"
        if failures_of(properties) >= MAX_FAILURES:
            park(channel, properties, body)
            channel.basic_ack(method.delivery_tag)
            print(f"parked {name}", flush=True)
            continue
        try:
            with database:
                outcome = handle(database, json.loads(body))
        except sqlite3.OperationalError:
            # The disk is full or the file locked: that is no fault of the message, and would be the same with the next.
            raise
        except Exception as error:
            print(f"failed {name}: {error!r}", flush=True)
            channel.basic_reject(method.delivery_tag, requeue=False)
        else:
            channel.basic_ack(method.delivery_tag)
            print(f"{outcome} {name}", flush=True)

    # What was fetched and not handled goes back into the queue.
    channel.cancel()
    connection.close()
    database.close()


if __name__ == "__main__":
    main()
