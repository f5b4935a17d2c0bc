/** Protections of the process: its start and end, its health, what it is made of and what it says. */
import type { Protection } from "./Protection.ts"
import { dueLoop, health, publisher, relay, service, settings, tables, triggers } from "./files.ts"

export const living: ReadonlyArray<Protection> = [
  {
    pitfalls: [37],
    name: "a stop interrupts the wait",
    takenOut: [
      {
        file: dueLoop.source,
        find: "Effect.as(Effect.sleep(Duration.millis(wholeMillis(limit))), atLimit)",
        put: "Effect.uninterruptible(Effect.as(Effect.sleep(Duration.millis(wholeMillis(limit))), atLimit))"
      }
    ],
    caughtBy: {
      [service]: [
        "stops on SIGTERM long before what it waits for, with exit code 0",
        "stops on SIGINT long before what it waits for, with exit code 0",
        "stops on SIGHUP long before what it waits for, with exit code 0"
      ]
    }
  },
  {
    pitfalls: [37],
    name: "a stop waits for the confirms of what was sent",
    takenOut: [{ file: relay.source, find: ".pipe(Effect.uninterruptible)", put: "" }],
    caughtBy: { [relay.test]: ["waits for the confirms of what it has sent before it stops"] }
  },
  {
    pitfalls: [37],
    name: "a stop that does not end is cut",
    takenOut: [{ file: "src/cli/shutdown.ts", find: "        process.exit(1)\n", put: "" }],
    caughtBy: {
      "test/cli/shutdown.test.ts": [
        "is cut after the grace time, with a message and exit code 1; further signals change nothing"
      ]
    }
  },
  {
    pitfalls: [38, 39],
    name: "a loop that makes no progress is not alive",
    takenOut: [
      {
        file: "src/observability/Health.ts",
        find: ".filter(([, instant]) => instant + grace < now)",
        put: ".filter(([, instant]) => instant + grace < now - 1e9)"
      }
    ],
    caughtBy: {
      [health]: ["is overdue when it has not spoken for as long as it said, and no more once it speaks"],
      "test/integration/http.test.ts": ["is not live while a loop makes no progress"]
    }
  },
  {
    pitfalls: [38],
    name: "the health command asks the process, and believes only its answer",
    takenOut: [
      {
        file: "src/cli/health.ts",
        find: "if (!ready) yield* new NotReady",
        put: "if (url === detail) yield* new NotReady"
      }
    ],
    caughtBy: {
      "test/cli/health.test.ts": [
        "exits 1 and names the component while the service cannot work",
        "exits 1 where something else answers",
        "exits 1 where nothing listens",
        "exits 1 after three seconds without an answer"
      ]
    }
  },
  {
    pitfalls: [39],
    name: "a loop that ends takes the process along",
    takenOut: [
      {
        file: "src/cli/daemons.ts",
        find: "Effect.flatMap(Effect.exit(daemon), (exit) => endOf(name, exit))",
        put: "Effect.forkDetach(Effect.flatMap(Effect.exit(daemon), (exit) => endOf(name, exit)))"
      }
    ],
    caughtBy: { [service]: ["ends with exit code 1 and the reason when one of its loops dies"] }
  },
  {
    pitfalls: [40],
    name: "the program is one bundle",
    takenOut: [{ file: "scripts/build.ts", find: "bundle: true,\n", put: 'bundle: true,\n  packages: "external",\n' }],
    caughtBy: { [service]: ["needs nothing but its bundle: no sources, no modules"] }
  },
  {
    pitfalls: [41],
    name: "a migration is applied once, whoever asks for it and how often",
    takenOut: [
      {
        file: "src/postgres/migrations.ts",
        find: "Migrator.make({})({\n  loader,\n  table: migrationsTable\n})",
        put:
          "Effect.andThen(Migrator.make({})({ loader: Migrator.fromRecord({}), table: migrationsTable }),\n" +
          "Effect.flatMap(loader, (found) => Effect.forEach(found, ([id, name, load]) =>\n" +
          "Effect.as(Effect.flatten(load), [id, name] as const))))"
      }
    ],
    caughtBy: {
      "test/integration/migrations.test.ts": [
        "are all applied once when several processes migrate an empty database at the same time",
        "apply nothing to a database that has them"
      ]
    }
  },
  {
    pitfalls: [42],
    name: "the catalogue is compared: indexes",
    takenOut: [
      {
        file: tables.source,
        find: "game_status_schedule (transition_time)\n    WHERE executed = FALSE AND hold IS NULL`",
        put: "game_status_schedule (transition_time)`"
      }
    ],
    caughtBy: { [tables.test]: ["has these indexes, with these predicates"] }
  },
  {
    pitfalls: [42],
    name: "the catalogue is compared: triggers",
    takenOut: [
      {
        file: triggers.source,
        find: "  // A change of a row's time or done flag, by anyone, makes it a fresh row",
        put:
          "  yield* sql`DROP TRIGGER notification_schedule_notify_update ON notification_schedule`\n\n" +
          "  // A change of a row's time or done flag, by anyone, makes it a fresh row"
      }
    ],
    caughtBy: { [tables.test]: ["has these triggers and functions"] }
  },
  {
    pitfalls: [43],
    name: "the log names the database by its address, without user and password",
    takenOut: [
      {
        file: "src/postgres/sockets.ts",
        find: "`${parsed.hostname || parsed.searchParams.get",
        put: "`${parsed.password} ${parsed.hostname || parsed.searchParams.get"
      }
    ],
    caughtBy: { [service]: ["logs one JSON object per line and no secret"] }
  },
  {
    pitfalls: [43],
    name: "the log names the broker by its address, without user and password",
    takenOut: [
      {
        file: "src/messaging/RabbitPublisher.ts",
        find: "return `${hostname}:${port ||",
        put: "return `${new URL(Redacted.value(url)).password}@${hostname}:${port ||"
      }
    ],
    caughtBy: { [publisher]: ["fails the start at once on a wrong password, and does not show it"] }
  },
  {
    pitfalls: [43],
    name: "a bad address is refused without being shown",
    takenOut: [
      { file: "src/cli/settingErrors.ts", find: "value === undefined || isSecret(name)", put: "value === undefined" }
    ],
    caughtBy: {
      "test/cli/commands.test.ts": [
        "a bad DATABASE_URL ends with exit code 2 and one line that names it and shows no secret"
      ]
    }
  },
  {
    pitfalls: [43],
    name: "addresses are redacted from the moment they are read",
    takenOut: [
      {
        file: settings.source,
        find: "Option.some(Redacted.make(text))",
        put: "Option.some(Redacted.make(text, { label: text }))"
      }
    ],
    caughtBy: {
      [settings.test]: [
        "DATABASE_URL is kept redacted",
        "DATABASE_LISTEN_URL is kept redacted",
        "RABBITMQ_URL is kept redacted"
      ]
    }
  }
]
