/** Protections of events: from the commit that they tell of to the broker's confirm. */
import type { Protection } from "./Protection.ts"
import {
  crashes,
  games,
  interleavings,
  link,
  outboxRepository,
  publisher,
  relay,
  repositories,
  service,
  tables
} from "./files.ts"

export const publishing: ReadonlyArray<Protection> = [
  {
    pitfalls: [27],
    name: "a change, its schedule and its event are one transaction",
    takenOut: [
      {
        file: "src/games/Games.ts",
        find: "database.transaction(Effect.andThen(repository.boundLockWaits, change)).pipe(",
        put: "Effect.andThen(repository.boundLockWaits, change).pipe("
      }
    ],
    caughtBy: { [games.test]: ["a failed change leaves nothing behind"] }
  },
  {
    pitfalls: [27],
    name: "the relay is told of commits, not of attempts",
    takenOut: [
      {
        file: "src/games/Games.ts",
        find: "(mayHaveTold(exit) ? signal.committed : Effect.void)",
        put: "(mayHaveTold(exit) ? signal.committed : signal.committed)"
      }
    ],
    caughtBy: { [games.test]: ["the relay is told of events only after they were committed"] }
  },
  {
    pitfalls: [28],
    name: "an event is forgotten after its confirm, not before its publication",
    takenOut: [
      {
        file: relay.source,
        find: "const { confirmed, failed } = yield* publishBatch(events)\n",
        put:
          "yield* outbox.remove(events.map((event) => event.id))\n" +
          "    const { confirmed, failed } = yield* publishBatch(events)\n"
      }
    ],
    caughtBy: {
      [relay.test]: ["forgets an event only after the broker has confirmed it"],
      [crashes]: ["loses nothing and starts nothing twice: before the publish"]
    }
  },
  {
    pitfalls: [29],
    name: "an event counts as published when the broker has confirmed it",
    takenOut: [
      {
        file: link,
        find: "isFull = !written.success\n",
        put: "isFull = !written.success\n      settle()\n"
      }
    ],
    caughtBy: { [publisher]: ["gives up on a connection over which no confirm comes, and opens another"] }
  },
  {
    pitfalls: [29],
    name: "an event that came back is not confirmed",
    takenOut: [
      {
        file: link,
        find: "if (returned.delete(message.event_id)) {",
        put: "if (returned.delete(`no ${message.event_id}`)) {"
      }
    ],
    caughtBy: { [publisher]: ["confirms no event that came back, and declares what was missing"] }
  },
  {
    pitfalls: [30],
    name: "a channel that the broker closed is given up with its connection",
    takenOut: [
      {
        file: link,
        find: 'channel.on("error", (error) => end(endReason(error)))',
        put: 'channel.on("error", () => {})'
      },
      {
        file: link,
        find: 'channel.on("close", () => queueMicrotask(() => end(unavailable("the connection was closed"))))',
        put: 'channel.on("close", () => {})'
      }
    ],
    caughtBy: {
      [publisher]: [
        "fails what was in flight as suspect when one event closed the channel, and takes the others afterwards"
      ]
    }
  },
  {
    pitfalls: [30],
    name: "what was unconfirmed when the connection ended is answered",
    takenOut: [{ file: link, find: "for (const { settle } of unconfirmed.values()) settle(reason)\n", put: "" }],
    caughtBy: {
      [publisher]: ["answers every publish when the broker is killed, and reconnects within 5 s of its return"]
    }
  },
  {
    pitfalls: [30],
    name: "heartbeats are exchanged every ten seconds",
    takenOut: [{ file: link, find: 'parsed.searchParams.set("heartbeat", "10")', put: "{}" }],
    caughtBy: {
      [publisher]: [
        "exchanges heartbeats every ten seconds, so that a connection which has died is noticed in a long silence"
      ]
    }
  },
  {
    pitfalls: [31],
    name: "the connection's errors are heard",
    takenOut: [
      { file: link, find: 'connection.on("error", () => {})\n', put: "" },
      { file: link, find: 'connection.on("error", (error) => end(endReason(error)))\n', put: "" }
    ],
    caughtBy: { [service]: ["goes on after its connection to the broker was cut"] }
  },
  {
    pitfalls: [31],
    name: "no more is sent than the window and the socket hold",
    takenOut: [
      {
        file: link,
        find: 'status._tag === "open" && !isFull && unconfirmed.size < options.window',
        put: 'status._tag === "open"'
      }
    ],
    caughtBy: {
      "test/messaging/link.integration.test.ts": [
        "takes no more than its window until the broker has confirmed",
        "takes nothing while its socket has not sent what it was given"
      ]
    }
  },
  {
    pitfalls: [31],
    name: "nothing is sent to a broker that is blocked",
    takenOut: [
      {
        file: link,
        find: 'connection.on("blocked", (reason) => enter({ _tag: "blocked", reason }))',
        put: 'connection.on("blocked", () => {})'
      }
    ],
    caughtBy: { [publisher]: ["is blocked while the broker has no memory, and goes on when it has"] }
  },
  {
    pitfalls: [32],
    name: "a declaration that differs is one clear error",
    takenOut: [
      {
        file: "src/messaging/topology.ts",
        find: "if (mismatch !== undefined) {",
        put: 'if (mismatch !== undefined && mismatch["name"] === "") {'
      }
    ],
    caughtBy: {
      [publisher]: [
        "says at the start what differs when the exchange exists with other properties",
        "waits, once it runs, until a mismatched exchange is put right, and says once what differs"
      ]
    }
  },
  {
    pitfalls: [33],
    name: "the queue of what nobody wants feeds no other",
    takenOut: [
      {
        file: "src/messaging/topology.ts",
        find: 'overflow: "drop-head" }',
        put: 'overflow: "drop-head", deadLetterExchange: unrouted }'
      }
    ],
    caughtBy: {
      [publisher]: ["declares one queue, which is bounded and whose events go nowhere else when they leave it"]
    }
  },
  {
    pitfalls: [33],
    name: "attempts of an event are counted, and the last one parks it",
    takenOut: [{ file: relay.source, find: "settings.maxAttempts\n", put: "Number.MAX_SAFE_INTEGER\n" }],
    caughtBy: {
      [relay.test]: [
        "tries a refused event again with doubling pauses, then gives it up, and only then sends what follows it"
      ]
    }
  },
  {
    pitfalls: [34],
    name: "every event carries the version of its game",
    takenOut: [
      { file: "src/outbox/gameEventData.ts", find: "'version', game.version${more}", put: "'version', 1${more}" }
    ],
    caughtBy: {
      [games.test]: ["two edits at once > both apply, one version after the other, with their events in that order"]
    }
  },
  {
    pitfalls: [35],
    name: "the relay reads what is there, without a cursor",
    takenOut: [
      {
        file: repositories.outbox,
        find: "WHERE event.id >= ${String(position.from)}::bigint",
        put: "WHERE event.id > ${String(last)}::bigint"
      }
    ],
    caughtBy: {
      [outboxRepository]: ["lists an event that is committed long after others with higher numbers were published"],
      [interleavings]: ["publishes an event that was numbered before others and committed after they were gone"]
    }
  },
  {
    pitfalls: [35],
    name: "the relay's looks begin before everything that somebody was writing",
    takenOut: [
      {
        file: repositories.outbox,
        find: "pg_current_xact_id()::text AS begun",
        put: "pg_snapshot_xmax(pg_current_snapshot())::text AS begun"
      }
    ],
    caughtBy: {
      [outboxRepository]: [
        "passes no event of a transaction that was writing, and the latest to have begun, when later ones were seen"
      ]
    }
  },
  {
    pitfalls: [36],
    name: "a broker that is away costs no attempt",
    takenOut: [
      {
        file: relay.source,
        find: 'if (error.reason._tag === "BrokerUnavailable") {',
        put: 'if (error.reason._tag === "BrokerUnavailable" && event.event_id === "") {'
      }
    ],
    caughtBy: { [relay.test]: ["counts no attempt while the broker is away, however long, and loses nothing"] }
  },
  {
    pitfalls: [36],
    name: "a backlog is worked off a few thousand events at a time",
    takenOut: [{ file: relay.source, find: "const window = 1000\n", put: "const window = 1_000_000\n" }],
    caughtBy: { [relay.test]: ["has no more than two batches of a thousand events in hand, however many wait"] }
  },
  {
    pitfalls: [36],
    name: "a game with a backlog leaves the others their turn",
    takenOut: [
      {
        file: relay.source,
        find: "byGame(sent).map((game) => game.slice(0, perGame)),",
        put: "byGame(sent),"
      }
    ],
    caughtBy: { [relay.test]: ["does not let a game with thousands of events hold up the others"] }
  },
  {
    pitfalls: [36],
    name: "new events need not wait for the end of a backlog",
    takenOut: [{ file: relay.source, find: "const latest = 100\n", put: "const latest = 0\n" }],
    caughtBy: {
      [relay.test]: ["sends what is new before the end of a backlog, unless something earlier of its game waits"]
    }
  },
  {
    pitfalls: [36],
    name: "an event is not sent out of turn while an earlier one of its game waits",
    takenOut: [
      {
        file: repositories.outbox,
        find: "earlier.id + 0 < event.id",
        put: "FALSE"
      }
    ],
    caughtBy: {
      [outboxRepository]: [
        "OutboxRepository (PostgreSQL) > lists the latest events for which no earlier one of their game waits, of those that it looks at"
      ]
    }
  },
  {
    pitfalls: [36],
    name: "events leave in their order",
    takenOut: [{ file: repositories.outbox, find: "ORDER BY event.id\n", put: "ORDER BY event.id DESC\n" }],
    caughtBy: {
      [outboxRepository]: [
        "OutboxRepository (PostgreSQL) > lists what waits in its order, no more than asked for, and forgets what is removed"
      ]
    }
  },
  {
    pitfalls: [48],
    name: "events do not hang on their game",
    takenOut: [
      {
        file: tables.source,
        find: "game_id     uuid        NOT NULL,\n      type        text",
        put: "game_id     uuid        NOT NULL REFERENCES game_sessions (id) ON DELETE CASCADE,\n      type        text"
      }
    ],
    caughtBy: {
      [games.test]: ["takes its schedule along and leaves its events, the last of them one version later"]
    }
  }
]
