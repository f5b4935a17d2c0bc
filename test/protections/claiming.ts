/** Protections of what happens to games: claims and their effects, failures, and the bookkeeping of the API. */
import type { Protection } from "./Protection.ts"
import {
  claim,
  crashes,
  dueLoop,
  dueRepository,
  engine,
  games,
  interleavings,
  plans,
  repositories,
  suspects,
  tables,
  triggers
} from "./files.ts"

const locked = "FOR NO KEY UPDATE OF row, game SKIP LOCKED\n          ), chosen"

export const claiming: ReadonlyArray<Protection> = [
  {
    pitfalls: [17, 18, 19],
    name: "the clock judges a game and its row that it has locked",
    takenOut: [{ file: repositories.transitions, find: locked, put: "), chosen" }],
    caughtBy: {
      [interleavings]: [
        "does not start a game whose cancellation was under way when it was due",
        "does not start a game by a row that was being moved when it was due, though its game was free",
        "lets two engines on one database start each game once"
      ]
    }
  },
  {
    pitfalls: [18],
    name: "the clock locks the row as well as the game",
    takenOut: [
      {
        file: repositories.transitions,
        find: locked,
        put: "FOR NO KEY UPDATE OF game SKIP LOCKED\n          ), chosen"
      }
    ],
    caughtBy: {
      [interleavings]: ["does not start a game by a row that was being moved when it was due, though its game was free"]
    }
  },
  {
    pitfalls: [17],
    name: "the API judges a game that it has locked",
    takenOut: [
      {
        file: games.source,
        find: '${reason === "change" ? sql`FOR NO KEY UPDATE` : sql`FOR UPDATE`}',
        put: '${reason === "change" ? sql`` : sql`FOR UPDATE`}'
      }
    ],
    caughtBy: {
      [games.test]: ["a foreign transaction that holds the game > is waited for"]
    }
  },
  {
    pitfalls: [19],
    name: "claim and effect are one transaction, without a lease",
    takenOut: [
      {
        file: repositories.schedule,
        find: claim,
        put:
          "Effect.andThen(sql`UPDATE ${table} AS row SET hold = 'parked' WHERE ${fresh} AND row.${due} <= now()`, Effect.delay(\n" +
          "options.apply(sql`row.${done} = FALSE AND row.hold = 'parked' AND row.${due} <= now()`, limit), 300))"
      }
    ],
    caughtBy: { [crashes]: ["loses nothing and starts nothing twice: a moment after the claim began"] }
  },
  {
    pitfalls: [20],
    name: "a row that failed rests, apart from the fresh ones",
    takenOut: [
      {
        file: repositories.schedule,
        find: "hold = CASE WHEN ${tries} >= ${maxAttempts}::int THEN 'parked' ELSE 'retry' END,",
        put: "hold = CASE WHEN ${tries} >= ${maxAttempts}::int THEN 'parked' END,"
      }
    ],
    caughtBy: {
      [dueRepository]: [
        "DueRepository (game_status_schedule) > gives a failed row its pause, out of the fresh ones, and lists it when the pause is over",
        "DueRepository (notification_schedule) > gives a failed row its pause, out of the fresh ones, and lists it when the pause is over"
      ]
    }
  },
  {
    pitfalls: [20],
    name: "a batch that fails is split until the culprit stands alone",
    takenOut: [
      {
        file: suspects,
        find: "else cut(rows, search)",
        put: "else for (const row of rows) search.culprits.push({ row, error: result.failure })"
      }
    ],
    caughtBy: {
      [dueLoop.test]: ["splits a batch until the culprit stands alone, and the others go on at once"],
      [interleavings]: [
        "starts 196 games at once beside 4 that cannot be started, and starts those when the cause is gone"
      ]
    }
  },
  {
    pitfalls: [20],
    name: "others have their turn while a batch that failed is looked through",
    takenOut: [
      {
        file: dueLoop.source,
        find: "(yield* uptimeMillis) + Duration.toMillis(searchShare)",
        put: "(yield* uptimeMillis) + 1e9"
      }
    ],
    caughtBy: { [dueLoop.test]: ["lets others have their turn while it looks through a batch that failed"] }
  },
  {
    pitfalls: [20],
    name: "a row that fails again and again becomes a dead letter",
    takenOut: [
      {
        file: repositories.schedule,
        find: "hold = CASE WHEN ${tries} >= ${maxAttempts}::int THEN 'parked' ELSE 'retry' END,",
        put: "hold = CASE WHEN ${tries} >= ${maxAttempts}::int THEN 'retry' ELSE 'retry' END,"
      }
    ],
    caughtBy: {
      [dueRepository]: [
        "DueRepository (game_status_schedule) > makes a dead letter of a row after its last attempt",
        "DueRepository (notification_schedule) > makes a dead letter of a row after its last attempt"
      ]
    }
  },
  {
    pitfalls: [21],
    name: "a completion waits for the start of its game",
    takenOut: [{ file: repositories.transitions, find: "ELSE 'waiting'", put: "ELSE 'superseded'" }],
    caughtBy: {
      [interleavings]: [
        "puts a completion aside while its start is still to come, and completes after it",
        "starts and completes more games than a batch holds, also when all completions were due before the starts"
      ]
    }
  },
  {
    pitfalls: [21],
    name: "of a game with both rows due the start comes first",
    takenOut: [
      {
        file: repositories.transitions,
        find: "ORDER BY game_id, (target_status <> 'IN_PROGRESS'), transition_time",
        put: "ORDER BY game_id, target_status, transition_time"
      },
      { file: repositories.transitions, find: "ELSE 'waiting'", put: "ELSE 'superseded'" }
    ],
    caughtBy: { [engine]: ["starts and then completes a game whose both rows are overdue, in this order"] }
  },
  {
    pitfalls: [22],
    name: "the completion of a running game follows its duration",
    takenOut: [
      {
        file: "src/games/Games.ts",
        find: "yield* repository.moveCompletion(after.id, after.expected_duration_minutes - before.expected_duration_minutes)",
        put: "yield* Effect.void"
      }
    ],
    caughtBy: {
      [games.test]: [
        "a running game > has its completion moved by the difference of the durations, and its start left alone"
      ]
    }
  },
  {
    pitfalls: [22],
    name: "the start of a running game is left alone",
    takenOut: [
      {
        file: games.source,
        find: "WHERE game_id = ${id}::uuid AND target_status = 'COMPLETED' AND executed = FALSE`",
        put: "WHERE game_id = ${id}::uuid`"
      }
    ],
    caughtBy: {
      [games.test]: [
        "a running game > has its completion moved by the difference of the durations, and its start left alone"
      ]
    }
  },
  {
    pitfalls: [22],
    name: "the completion of a planned game follows its duration",
    takenOut: [{ file: "src/games/Games.ts", find: "if (moved || stretched) {", put: "if (moved) {" }],
    caughtBy: { [games.test]: ["a scheduled game whose duration changes > keeps its start, and its completion moves"] }
  },
  {
    pitfalls: [23],
    name: "only reminders that are not wanted any more are deleted",
    takenOut: [
      {
        file: games.source,
        find: "WHERE wanted.reminder_minutes = row.reminder_minutes\n",
        put: "WHERE FALSE AND wanted.reminder_minutes = row.reminder_minutes\n"
      }
    ],
    caughtBy: {
      [games.test]: [
        "a scheduled game whose reminders change > loses those no longer wanted, gets the new ones, and keeps a sent one as sent"
      ]
    }
  },
  {
    pitfalls: [24],
    name: "a cancelled game has no pending row of either kind",
    takenOut: [
      {
        file: games.source,
        find: "DELETE FROM game_status_schedule WHERE game_id = ${id}::uuid AND executed = FALSE`",
        put: "DELETE FROM game_status_schedule WHERE game_id = ${id}::uuid AND executed = FALSE AND target_status = 'IN_PROGRESS'`"
      }
    ],
    caughtBy: {
      [games.test]: [
        "a game that is completed or cancelled > is cancelled with one event, and once more without",
        "a game that is completed or cancelled > has no pending row, and keeps the done ones"
      ]
    }
  },
  {
    pitfalls: [24],
    name: "a failure of a row is caught inside the loop",
    takenOut: [
      {
        file: dueLoop.source,
        find: "Effect.catchIf(isAboutRows, (error) => suspect(error, limit, from))",
        put: "Effect.catchIf(() => false, (error) => suspect(error, limit, from))"
      }
    ],
    caughtBy: {
      [dueLoop.test]: [
        "splits a batch until the culprit stands alone, and the others go on at once",
        "tries a failed row again with doubling pauses, then gives it up as a dead letter with its reason"
      ]
    }
  },
  {
    pitfalls: [25],
    name: "a new game gets its completion with its start",
    takenOut: [
      {
        file: games.source,
        find:
          "('IN_PROGRESS', game.scheduled_at),\n" +
          "          ('COMPLETED', game.scheduled_at + make_interval(mins => game.expected_duration_minutes))",
        put: "('IN_PROGRESS', game.scheduled_at)"
      }
    ],
    caughtBy: { [games.test]: ["a created game > gets both status rows, its reminders and game.created in one go"] }
  },
  {
    pitfalls: [25],
    name: "games that others wrote get their rows by backfill",
    takenOut: [
      {
        file: games.source,
        find: "(VALUES ('SCHEDULED', 'IN_PROGRESS'), ('SCHEDULED', 'COMPLETED'), ('IN_PROGRESS', 'COMPLETED'))",
        put: "(VALUES ('SCHEDULED', 'IN_PROGRESS'), ('SCHEDULED', 'COMPLETED'))"
      }
    ],
    caughtBy: {
      "test/integration/ledger.test.ts": ["plans what games written by other means lack, and nothing the second time"]
    }
  },
  {
    pitfalls: [26],
    name: "times are instants, with a time zone",
    takenOut: [
      {
        file: tables.source,
        find: "scheduled_at              timestamptz NOT NULL\n",
        put: "scheduled_at              timestamp   NOT NULL\n"
      }
    ],
    caughtBy: { [tables.test]: ["has these columns, with these types and defaults"] }
  },
  {
    pitfalls: [26],
    name: "instants are read and written in one notation",
    takenOut: [
      {
        file: "src/postgres/Database.ts",
        find: 'const notation = { DateStyle: "ISO", TimeZone: "UTC" }',
        put: "const notation = {}"
      }
    ],
    caughtBy: {
      "test/integration/database.test.ts": [
        "writes and reads instants in one notation, whatever the database's own is (pool)",
        "writes and reads instants in one notation, whatever the database's own is (migration)",
        "writes and reads instants in one notation, whatever the database's own is (pooler)"
      ]
    }
  },
  {
    pitfalls: [44],
    name: "the claim is bound to its index",
    takenOut: [
      {
        file: repositories.schedule,
        find: "sql`${fresh} AND row.${due} <= now() AND row.${due} >= ",
        put: "sql`${fresh} AND row.${due} <= clock_timestamp() AND row.${due} >= "
      }
    ],
    caughtBy: {
      [plans]: [
        "when few rows are due > and there are no statistics > applying due status transitions reads a few rows for each that it applies",
        "when few rows are due > and statistics are fresh > applying due status transitions reads a few rows for each that it applies",
        "when few rows are due > and there are no statistics > applying due notifications reads a few rows for each that it applies",
        "when few rows are due > and statistics are fresh > applying due notifications reads a few rows for each that it applies"
      ]
    }
  },
  {
    pitfalls: [44],
    name: "the doctor names who keeps old versions of rows",
    takenOut: [
      {
        file: "src/operations/DatabaseMetricsRepository.ts",
        find: "AND (backend_xmin IS NOT NULL OR backend_xid IS NOT NULL)",
        put: "AND FALSE"
      }
    ],
    caughtBy: {
      "test/integration/doctor.test.ts": ["a transaction that keeps old versions of rows, by its application"]
    }
  },
  {
    pitfalls: [46],
    name: "the clock waits for no row lock",
    takenOut: [
      { file: repositories.transitions, find: locked, put: "FOR NO KEY UPDATE OF row, game\n          ), chosen" }
    ],
    caughtBy: {
      [interleavings]: [
        "starts a game whose row another transaction held, as soon as that is over",
        "holds nothing that a change needs which has taken the game and goes on to its row when that is due"
      ]
    }
  },
  {
    pitfalls: [47],
    name: "the pauses grow while others hold what is due",
    takenOut: [
      {
        file: dueLoop.source,
        find: "pause = Duration.min(Duration.times(pause, 2), longestPause)",
        put: "pause = Duration.min(Duration.times(pause, 1), longestPause)"
      }
    ],
    caughtBy: { [dueLoop.test]: ["pauses, longer each time up to 100 ms, while others hold what is due"] }
  },
  {
    pitfalls: [46],
    name: "the API locks the letters about rows after the rows",
    takenOut: [
      {
        file: games.source,
        find: "SELECT (SELECT count(*) FROM transitions) + (SELECT count(*) FROM reminders) AS locked`",
        put: "SELECT 0 AS locked`"
      }
    ],
    caughtBy: {
      [interleavings]: [
        "keeps nothing from who moves a row that was given up while its game is cancelled",
        "keeps nothing from who moves a row that was given up while its game is deleted",
        "keeps nothing from who moves a row that was given up while its game is moved"
      ]
    }
  },
  {
    pitfalls: [44],
    name: "the relay begins to look behind what is gone",
    takenOut: [
      {
        file: repositories.outbox,
        find: "WHERE event.id >= ${String(position.from)}::bigint",
        put: "WHERE event.id >= ${String(beginning.from)}::bigint"
      }
    ],
    caughtBy: { [plans]: ["while somebody keeps an old snapshot > listing events passes nothing that is gone"] }
  },
  {
    pitfalls: [50],
    name: "a statement applies one row of a game",
    takenOut: [
      {
        file: repositories.transitions,
        find: "SELECT DISTINCT ON (game_id) *\n            FROM claimed",
        put: "SELECT *\n            FROM claimed"
      },
      {
        file: repositories.transitions,
        find: "WHEN chosen.target_status = 'COMPLETED' AND chosen.status = 'IN_PROGRESS' THEN 'applied'",
        put: "WHEN chosen.target_status = 'COMPLETED' AND chosen.status IN ('SCHEDULED', 'IN_PROGRESS') THEN 'applied'"
      }
    ],
    caughtBy: { [engine]: ["starts and then completes a game whose both rows are overdue, in this order"] }
  },
  {
    pitfalls: [50],
    name: "a statement sends one reminder of a game",
    takenOut: [
      {
        file: repositories.notifications,
        find: "SELECT DISTINCT ON (game_id) *, CASE WHEN wanted",
        put: "SELECT *, CASE WHEN wanted"
      }
    ],
    caughtBy: {
      [dueRepository]: ["sends one reminder of a game with each statement, earlier ones first"]
    }
  },
  {
    pitfalls: [22],
    name: "a row that anybody moves is a fresh one",
    takenOut: [{ file: triggers.source, find: "NEW.hold := NULL;\n", put: "" }],
    caughtBy: { [triggers.test]: ["make a failed row a fresh one when its time changes, also when it was parked"] }
  }
]
