/** Protections of the LISTEN session, of the sessions kept for locks, and of those who listen. */
import type { Protection } from "./Protection.ts"
import { database, dueLoop, listener, marks, outages, relay, service, session, triggers } from "./files.ts"

const overPostgres = "Listener (PostgreSQL) > hints every subscriber when it has reconnected"

export const listening: ReadonlyArray<Protection> = [
  {
    pitfalls: [10],
    name: "a session that ended is opened again",
    takenOut: [
      {
        file: session,
        find: "return Effect.forever(Effect.orDie(Effect.retry(once, reconnecting)))",
        put: "return Effect.andThen(Effect.ignore(once), Effect.never)"
      }
    ],
    caughtBy: { [listener.test]: [overPostgres] }
  },
  {
    pitfalls: [11],
    name: "a heartbeat crosses the LISTEN session, with a deadline",
    takenOut: [{ file: session, find: "yield* session.within(options.deadline)(beat)", put: "yield* beat" }],
    caughtBy: {
      [outages]: ["a listener whose connection went silent is noticed within 5 s, and planned games start on time"]
    }
  },
  {
    pitfalls: [12],
    name: "whoever listens looks at the table after a reconnect",
    takenOut: [
      {
        file: listener.source,
        find: 'yield* subscriptions.offer({ cause: "reconnect", earliest: undefined })',
        put: "yield* Effect.void"
      }
    ],
    caughtBy: {
      [listener.test]: [overPostgres],
      [outages]: ["a row inserted while nobody listens is found when the listener is back"]
    }
  },
  {
    pitfalls: [12],
    name: "a loop looks every second while nobody listens",
    takenOut: [
      {
        file: dueLoop.source,
        find: "(yield* listener.isUp) ? settings.backstop : Duration.min(deafPoll, settings.backstop)",
        put: "settings.backstop"
      }
    ],
    caughtBy: {
      [dueLoop.test]: ["looks every second while the listener is away, and by the backstop again when it is back"]
    }
  },
  {
    pitfalls: [13],
    name: "what fails all the time is tried with growing pauses",
    takenOut: [
      {
        file: "src/postgres/outages.ts",
        find: 'Schedule.min([Schedule.exponential("50 millis"), Schedule.spaced("2 seconds")])',
        put: 'Schedule.spaced("50 millis")'
      }
    ],
    caughtBy: {
      [dueLoop.test]: ["waits out an outage of the server, counts no attempt, and goes on by itself"],
      "test/postgres/outages.test.ts": [
        "is tried with pauses of at most two seconds, and said to be away once and to be back once"
      ]
    }
  },
  {
    pitfalls: [13],
    name: "an outage is said once, not at every try",
    takenOut: [
      {
        file: "src/postgres/outages.ts",
        find: 'if (said === "refused" || (said === "interrupted" && !refused)) return\n',
        put: ""
      }
    ],
    caughtBy: {
      "test/postgres/outages.test.ts": [
        "is tried with pauses of at most two seconds, and said to be away once and to be back once"
      ]
    }
  },
  {
    pitfalls: [14],
    name: "a pooler that swallows notifications is noticed",
    takenOut: [
      {
        file: listener.source,
        find: "orElse: () => Effect.fail(new NotificationsSwallowed())",
        put: "orElse: () => Effect.succeed([])"
      }
    ],
    caughtBy: {
      [listener.test]: [
        "Listener (behind a pooler) > is not up while its own notifications do not come back, and says what to do"
      ]
    }
  },
  {
    pitfalls: [14],
    name: "LISTEN goes round the pooler",
    takenOut: [
      { file: "src/cli/service.ts", find: "Listener.layer(listenUrl)", put: "Listener.layer(url ?? listenUrl)" }
    ],
    caughtBy: {
      [service]: ["keeps LISTEN and the relay's lock on DATABASE_LISTEN_URL, and everything else on DATABASE_URL"]
    }
  },
  {
    pitfalls: [14],
    name: "the relay's lock goes round the pooler",
    takenOut: [{ file: "src/cli/service.ts", find: "Relay.run(addresses.listenUrl)", put: "Relay.run(addresses.url)" }],
    caughtBy: {
      [service]: ["keeps LISTEN and the relay's lock on DATABASE_LISTEN_URL, and everything else on DATABASE_URL"]
    }
  },
  {
    pitfalls: [15],
    name: "the relay's lock is tried for, never waited for",
    takenOut: [
      {
        file: relay.source,
        find: '"SELECT pg_try_advisory_lock($1::bigint)"',
        put: '"SELECT pg_advisory_lock($1::bigint) IS NOT NULL"'
      }
    ],
    caughtBy: {
      [outages]: ["whoever waits, for a time, a hint or the relay's lock, holds no transaction and no snapshot open"]
    }
  },
  {
    pitfalls: [16],
    name: "rows that are due later are written without a NOTIFY",
    takenOut: [
      {
        file: triggers.source,
        find: "hold IS NULL AND transition_time <= clock_timestamp() + interval '5 minutes'",
        put: "hold IS NULL"
      },
      {
        file: triggers.source,
        find: "hold IS NULL AND notification_time <= clock_timestamp() + interval '5 minutes'",
        put: "hold IS NULL"
      },
      {
        file: marks,
        find: "NEW.hold IS NULL AND NEW.${sql(due)} <= clock_timestamp() + interval '5 minutes'",
        put: "NEW.hold IS NULL"
      }
    ],
    caughtBy: { [triggers.test]: ["say nothing of a row that is due later, inserted or moved"] }
  },
  {
    pitfalls: [16],
    name: "a burst of events is told of by one NOTIFY",
    takenOut: [
      {
        file: "src/outbox/OutboxSignal.ts",
        find: "const notifications = yield* Queue.sliding<void>(1)",
        put: "const notifications = yield* Queue.unbounded<void>()"
      }
    ],
    caughtBy: {
      "test/outbox/OutboxSignal.integration.test.ts": [
        "is one NOTIFY for a burst of commits, and none of its own while it relays"
      ]
    }
  },
  {
    pitfalls: [49],
    name: "a hint does not depend on other rows",
    takenOut: [
      {
        file: triggers.source,
        find: "hold IS NULL AND transition_time <= clock_timestamp() + interval '5 minutes'",
        put:
          "hold IS NULL AND transition_time <= clock_timestamp() + interval '5 minutes' AND NOT EXISTS (\n" +
          "SELECT FROM game_status_schedule AS earlier WHERE earlier.executed = FALSE\n" +
          "AND earlier.transition_time < changed_rows.transition_time)"
      }
    ],
    caughtBy: {
      [triggers.test]: [
        "the triggers of game_status_schedule > notify of a row although an earlier one is pending or overdue"
      ]
    }
  },
  {
    pitfalls: [51],
    name: "infinity is no due time",
    takenOut: [
      {
        file: "migrations/0001_create_tables.ts",
        find: "transition_time timestamptz NOT NULL CHECK (isfinite(transition_time)),",
        put: "transition_time timestamptz NOT NULL,"
      },
      {
        file: "migrations/0001_create_tables.ts",
        find: "notification_time timestamptz NOT NULL CHECK (isfinite(notification_time)),",
        put: "notification_time timestamptz NOT NULL,"
      }
    ],
    caughtBy: { [triggers.test]: ["stand beside a check that refuses infinity as a due time"] }
  },
  {
    pitfalls: [52],
    name: "a session that does not answer is cut off, not said goodbye to",
    takenOut: [
      {
        file: session,
        find:
          "Effect.acquireUseRelease(\n" +
          "            Effect.sync(() => setTimeout(sockets.destroyAll, Duration.toMillis(limit))),\n" +
          "            () => effect,\n" +
          "            (timer) => Effect.sync(() => clearTimeout(timer))\n" +
          "          )",
        put:
          "Effect.timeoutOrElse(effect, { duration: limit,\n" +
          'orElse: () => Effect.fail({ _tag: "Late", message: "no answer" }) })'
      },
      { file: session, find: "Effect.ensuring(Effect.sync(sockets.destroyAll)),\n", put: "" }
    ],
    caughtBy: {
      [outages]: [
        "a relay whose lock session went silent opens another, and takes the lock when the server has freed it"
      ]
    }
  },
  {
    pitfalls: [52],
    name: "a statement that is not answered is cut off with its connection",
    takenOut: [
      {
        file: database,
        find:
          "Effect.acquireUseRelease(\n" +
          "              Effect.sync(() => setTimeout(sockets.destroySilent, Duration.toMillis(limit))),\n" +
          "              () => effect,\n" +
          "              (timer) => Effect.sync(() => clearTimeout(timer))\n" +
          "            )",
        put:
          "Effect.timeoutOrElse(effect, { duration: limit, orElse: () => Effect.fail(new SqlError.SqlError({ reason:\n" +
          'new SqlError.ConnectionError({ cause: new Error("no answer"), message: "no answer" }) })) })'
      }
    ],
    caughtBy: {
      [outages]: [
        "a loop whose connection went silent gives it up after 5 s and catches up",
        "a relay whose connection to the outbox went silent gives it up after 5 s and catches up"
      ]
    }
  }
]
