/** Protections of the waits: how long a loop rests, and what wakes it. */
import type { Protection } from "./Protection.ts"
import {
  claim,
  dueLoop,
  dueRepository,
  engine,
  health,
  listener,
  repositories,
  service,
  settings,
  triggers
} from "./files.ts"

export const waiting: ReadonlyArray<Protection> = [
  {
    pitfalls: [1],
    name: "the loop sleeps for fractions of a second",
    takenOut: [
      {
        file: dueLoop.source,
        find: "Duration.millis(wholeMillis(limit))",
        put: "Duration.seconds(Math.max(1, Math.floor(Duration.toSeconds(limit))))"
      }
    ],
    caughtBy: { [dueLoop.test]: ["sleeps for fractions of a second as they are, without a look in between"] }
  },
  {
    pitfalls: [1],
    name: "the database tells fractions of a second",
    takenOut: [
      {
        file: repositories.schedule,
        find: "sql`(extract(epoch FROM (${instant}) - clock_timestamp()) * 1000)::float8`",
        put: "sql`(floor(extract(epoch FROM (${instant}) - clock_timestamp())) * 1000)::float8`"
      }
    ],
    caughtBy: {
      [dueRepository]: [
        "DueRepository (game_status_schedule) > tells how long it is until the earliest row is due",
        "DueRepository (notification_schedule) > tells how long it is until the earliest row is due"
      ]
    }
  },
  {
    pitfalls: [2],
    name: "the loop does not wake early",
    takenOut: [
      {
        file: dueLoop.source,
        find: "Duration.millis(wholeMillis(limit))",
        put: "Duration.millis(Math.max(1, Duration.toMillis(limit) - 1000))"
      }
    ],
    caughtBy: { [dueLoop.test]: ["sleeps until the next due time and applies the row then, not before"] }
  },
  {
    pitfalls: [2],
    name: "only what is due is claimed",
    takenOut: [
      {
        file: repositories.schedule,
        find: "sql`${fresh} AND row.${due} <= now() AND row.${due} >= ",
        put: "sql`${fresh} AND row.${due} <= now() + interval '10 seconds' AND row.${due} >= "
      },
      {
        file: repositories.schedule,
        find: "${untilFresh(from, except)} AS fresh",
        put: "${untilFresh(from, except)} - 10000 AS fresh"
      }
    ],
    caughtBy: { [engine]: ["starts a game at its time, not before, and tells of it"] }
  },
  {
    pitfalls: [3],
    name: "no wait is longer than the backstop",
    takenOut: [
      {
        file: dueLoop.source,
        find: 'return Duration.isLessThan(next, backstop) ? yield* wait(next, "timer") : yield* wait(backstop, "backstop")',
        put: 'return yield* wait(next, "timer")'
      }
    ],
    caughtBy: { [dueLoop.test]: ["clamps a wait of months to the backstop"] }
  },
  {
    pitfalls: [4],
    name: "a row that is due in 0 ms is due",
    takenOut: [
      {
        file: dueLoop.source,
        find: "Option.exists(until, Duration.isLessThanOrEqualTo(Duration.zero))",
        put: "Option.exists(until, Duration.isLessThan(Duration.zero))"
      },
      {
        file: dueLoop.source,
        find: "const next = Option.getOrElse(earliest(look.fresh, look.retry), () => backstop)",
        put:
          "const next = Option.getOrElse(\n" +
          "Option.filter(earliest(look.fresh, look.retry), (until) => Duration.toMillis(until) !== 0), () => backstop)"
      }
    ],
    caughtBy: { [dueLoop.test]: ["applies a row that becomes due between two looks at once, zero is not missing"] }
  },
  {
    pitfalls: [5],
    name: "the loop looks by the backstop when nothing is pending",
    takenOut: [
      {
        file: dueLoop.source,
        find: "const next = Option.getOrElse(earliest(look.fresh, look.retry), () => backstop)",
        put: "const next = Option.getOrElse(earliest(look.fresh, look.retry), () => Duration.days(1))"
      },
      {
        file: dueLoop.source,
        find: 'return Duration.isLessThan(next, backstop) ? yield* wait(next, "timer") : yield* wait(backstop, "backstop")',
        put: 'return yield* wait(next, "timer")'
      }
    ],
    caughtBy: { [dueLoop.test]: ["finds by the backstop what nobody told of, and looks no more often than that"] }
  },
  {
    pitfalls: [5],
    name: "the backstop is shorter than the window of the triggers",
    takenOut: [
      {
        file: settings.source,
        find: 'duration("100 millis", "2 minutes")',
        put: 'duration("100 millis", "10 minutes")'
      }
    ],
    caughtBy: { [settings.test]: ['KICKOFF_BACKSTOP is refused by its name when it is "121 seconds"'] }
  },
  {
    pitfalls: [5],
    name: "the triggers tell of rows that are due within five minutes",
    takenOut: [
      {
        file: triggers.source,
        find: "hold IS NULL AND transition_time <= clock_timestamp() + interval '5 minutes'",
        put: "hold IS NULL AND transition_time <= clock_timestamp() + interval '1 minute'"
      },
      {
        file: triggers.source,
        find: "hold IS NULL AND notification_time <= clock_timestamp() + interval '5 minutes'",
        put: "hold IS NULL AND notification_time <= clock_timestamp() + interval '1 minute'"
      }
    ],
    caughtBy: { [triggers.test]: ["notify of a row that is due within five minutes, with its id and time"] }
  },
  {
    pitfalls: [6],
    name: "the triggers and the loops name the channels alike",
    takenOut: [
      {
        file: "src/postgres/channels.ts",
        find: '"game_status_schedule_changed"',
        put: '"game_status_schedule_change"'
      }
    ],
    caughtBy: { [service]: ["fires rows that plain SQL has inserted, reminders and starts side by side"] }
  },
  {
    pitfalls: [7],
    name: "a hint that comes during the look is kept",
    takenOut: [
      {
        file: dueLoop.source,
        find: "yield* beat(limit)\n",
        put: "yield* beat(limit)\n          yield* Queue.clear(hints)\n"
      }
    ],
    caughtBy: { [dueLoop.test]: ["keeps a hint that comes during the look, so that no wake-up is lost"] }
  },
  {
    pitfalls: [7],
    name: "one hint for several names the earliest instant of all",
    takenOut: [
      {
        file: listener.source,
        find: "undefined : Math.min(before.earliest, hint.earliest)",
        put: "undefined : hint.earliest"
      }
    ],
    caughtBy: {
      [listener.test]: [
        "Listener (in memory) > names the earliest instant of all notifications that came meanwhile, or none if one of them names none"
      ]
    }
  },
  {
    pitfalls: [8],
    name: "hints that pile up are one hint",
    takenOut: [
      { file: listener.source, find: "Queue.sliding<Hint>(1)", put: "Queue.unbounded<Hint>()" },
      {
        file: listener.source,
        find: "const waiting = Queue.takeUnsafe(subscription.queue)",
        put: "const waiting = Queue.takeUnsafe(Queue.asDequeue(Effect.runSync(Queue.unbounded<Hint>())))"
      }
    ],
    caughtBy: { [listener.test]: ["holds one hint for a subscriber that is busy, however many come"] }
  },
  {
    pitfalls: [9],
    name: "the database's clock says what is due",
    takenOut: [
      {
        file: repositories.schedule,
        find: claim,
        put:
          "Effect.flatMap(Clock.currentTimeMillis, (clock) => options.apply(\n" +
          "sql`row.${done} = FALSE AND row.hold IS NULL AND row.${due} <= to_timestamp(${clock / 1000}::float8)`, limit))"
      },
      {
        file: repositories.schedule,
        find: 'import { Duration, Effect, Option } from "effect"',
        put: 'import { Clock, Duration, Effect, Option } from "effect"'
      },
      {
        file: repositories.schedule,
        find: "((from: From, except: Except) =>\n    Effect.map(\n      sql<{",
        put: "((from: From, except: Except) =>\n    Effect.map(\n      Effect.flatMap(Clock.currentTimeMillis, (clock) => sql<{"
      },
      {
        file: repositories.schedule,
        find: "${untilFresh(from, except)} AS fresh",
        put: "${untilFresh(from, except)}\n- ${clock}::float8 + extract(epoch FROM clock_timestamp())::float8 * 1000 AS fresh"
      },
      { file: repositories.schedule, find: "AS now`,\n", put: "AS now`),\n" }
    ],
    caughtBy: {
      [engine]: [
        "starts a game on time, not before, on a machine whose clock is 3 hours fast",
        "starts a game on time, not before, on a machine whose clock is 3 hours slow"
      ]
    }
  },
  {
    pitfalls: [9],
    name: "how long something takes is measured by a clock that nobody sets",
    takenOut: [
      {
        file: "src/observability/uptime.ts",
        find: "Effect.map(Clock.monotonicTimeNanos, (nanos) =>",
        put: "Effect.map(Clock.currentTimeNanos, (nanos) =>"
      }
    ],
    caughtBy: {
      [health]: ["is neither overdue nor alive because the machine's clock was set"],
      [dueLoop.test]: [
        "looks for what waits in vain by its backstop also after the machine's clock was set back by hours"
      ]
    }
  }
]
