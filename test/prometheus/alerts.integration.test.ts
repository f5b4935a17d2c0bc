/** The alerts, as Prometheus evaluates them: each fires when it should and is quiet when it should be, to the word. */
import { assert, describe, it } from "@effect/vitest"
import { Effect } from "effect"
import { alerts, judgeRules, rulesFile } from "../support/alerts.ts"
import { promtool } from "../support/promtool.ts"

/** Values of series, one every 15 seconds, in promtool's notation: `a+bxn` is a and n more, each greater by b. */
type Series = Readonly<Record<string, string>>

interface Fires {
  /** What is wrong. */
  readonly when: string
  readonly series: Series
  /** When Prometheus is asked, since the first value. */
  readonly at: string
  /** The labels of each alert that fires, without its name and severity. */
  readonly labels: Readonly<Record<string, string>>
  readonly summary: string
  readonly description: string
}

interface IsQuiet {
  readonly when: string
  readonly series: Series
  readonly at: string
}

interface Case {
  readonly fires: ReadonlyArray<Fires>
  readonly isQuiet: ReadonlyArray<IsQuiet>
}

const series = (name: string, labels: Readonly<Record<string, string>> = {}) =>
  `${name}{${Object.entries({ job: "kickoff", instance: "a:3000", ...labels })
    .map(([label, value]) => `${label}="${value}"`)
    .join(",")}}`

/** Events of a type, so many every 15 seconds for five minutes, of which so many come within a bound. */
const lateness = (bound: string, inTime: number, all: number): Series => ({
  [series("kickoff_lateness_confirmed_seconds_bucket", { type: "game.started", le: bound })]: `0+${inTime}x40`,
  [series("kickoff_lateness_confirmed_seconds_count", { type: "game.started" })]: `0+${all}x40`
})

const started = { job: "kickoff", type: "game.started" }
const instance = { job: "kickoff", instance: "a:3000" }
const roles = ["api", "status-transitions", "notifications", "outbox"]

const cases: Readonly<Record<string, Case>> = {
  KickoffLate: {
    fires: ["1", "1.0"].map((bound) => ({
      when: `2 of 100 events come more than a second late, and the bound is written as ${bound}`,
      series: lateness(bound, 98, 100),
      at: "6m",
      labels: started,
      summary: "game.started comes late",
      description:
        "2% of the events game.started of the last 5 minutes were confirmed more than a second after their due time; the objective is 1%."
    })),
    isQuiet: [
      {
        when: "a few came late half a minute ago",
        series: {
          [series("kickoff_lateness_confirmed_seconds_bucket", { type: "game.started", le: "1" })]:
            "0+100x20 2050+100x19",
          [series("kickoff_lateness_confirmed_seconds_count", { type: "game.started" })]: "0+100x40"
        },
        at: "5m45s"
      },
      { when: "1 of 200 comes more than a second late", series: lateness("1", 199, 200), at: "6m" },
      { when: "nothing is due", series: lateness("1", 0, 0), at: "6m" }
    ]
  },
  KickoffVeryLate: {
    fires: ["10", "10.0"].map((bound) => ({
      when: `10 of 100 events come more than 10 seconds late, and the bound is written as ${bound}`,
      series: lateness(bound, 90, 100),
      at: "6m",
      labels: started,
      summary: "game.started comes more than 10 seconds late",
      description:
        "10% of the events game.started of the last 5 minutes were confirmed more than 10 seconds after their due time."
    })),
    isQuiet: [
      {
        when: "a few came late half a minute ago",
        series: {
          [series("kickoff_lateness_confirmed_seconds_bucket", { type: "game.started", le: "10" })]:
            "0+100x20 2000 2000 2100+100x17",
          [series("kickoff_lateness_confirmed_seconds_count", { type: "game.started" })]: "0+100x40"
        },
        at: "5m45s"
      },
      { when: "4 of 100 come more than 10 seconds late", series: lateness("10", 96, 100), at: "6m" }
    ]
  },
  KickoffOverdue: {
    fires: [
      {
        when: "the earliest row of a kind gets more and more overdue",
        series: {
          [series("kickoff_next_due_seconds", { kind: "notification" })]: "30-15x20",
          [series("kickoff_next_due_seconds", { kind: "status-transition" })]: "500x20",
          [series("kickoff_paused", { kind: "notification" })]: "0x20",
          [series("kickoff_paused", { kind: "status-transition" })]: "1x20"
        },
        at: "2m",
        labels: { job: "kickoff", kind: "notification" },
        summary: "Nothing happens to a notification that is due",
        description:
          "The earliest notification has been due for 1m 30s. It does not rest after a failure: nobody applies it."
      }
    ],
    isQuiet: [
      {
        when: "one look at it came late",
        series: { [series("kickoff_next_due_seconds", { kind: "notification" })]: "5 -40 -45 20x20" },
        at: "30s"
      },
      {
        when: "what is due is done, though other rows are overdue at each scrape",
        series: { [series("kickoff_next_due_seconds", { kind: "notification" })]: "-10x20" },
        at: "5m"
      },
      {
        when: "nothing is pending",
        series: { [series("kickoff_next_due_seconds", { kind: "notification" })]: "-100 stale" },
        at: "5m"
      },
      {
        when: "its kind is paused",
        series: {
          [series("kickoff_next_due_seconds", { kind: "notification" })]: "30-15x20",
          [series("kickoff_paused", { kind: "notification" })]: "1x20",
          [series("kickoff_paused", { kind: "status-transition" })]: "0x20"
        },
        at: "2m"
      }
    ]
  },
  KickoffPaused: {
    fires: [
      {
        when: "a kind is paused and nobody resumes it, which every process says",
        series: {
          [series("kickoff_paused", { kind: "notification" })]: "0 1x80",
          [series("kickoff_paused", { kind: "notification", instance: "b:3000" })]: "0 1x80",
          [series("kickoff_paused", { kind: "status-transition" })]: "0x80"
        },
        at: "16m",
        labels: { job: "kickoff", kind: "notification" },
        summary: "The kind notification is paused",
        description:
          "Somebody has paused it, for longer than a quarter of an hour by now. Nothing of it is done until it is resumed."
      }
    ],
    isQuiet: [
      {
        when: "it was paused for ten minutes",
        series: { [series("kickoff_paused", { kind: "notification" })]: "0 1x40 0x40" },
        at: "16m"
      }
    ]
  },
  KickoffDeadLetters: {
    fires: [
      {
        when: "a letter is open, which every process says",
        series: {
          [series("kickoff_dead_letters_open", { kind: "event" })]: "0 0 1x20",
          [series("kickoff_dead_letters_open", { kind: "event", instance: "b:3000" })]: "0 0 1x20",
          [series("kickoff_dead_letters_open", { kind: "notification" })]: "0x20"
        },
        at: "3m",
        labels: { job: "kickoff", kind: "event" },
        summary: "Dead letters of the kind event wait for a person",
        description: "1 of the kind event were given up and are not settled: nothing more happens to them by itself."
      }
    ],
    isQuiet: [
      {
        when: "somebody is settling it",
        series: { [series("kickoff_dead_letters_open", { kind: "event" })]: "0x4 1 1 0x20" },
        at: "1m30s"
      },
      {
        when: "all letters are settled",
        series: { [series("kickoff_dead_letters_open", { kind: "event" })]: "3x8 0x8" },
        at: "4m"
      }
    ]
  },
  KickoffGivingUp: {
    fires: [
      {
        when: "rows are given up one after another",
        series: { [series("kickoff_schedule_rows_total", { kind: "status-transition", outcome: "parked" })]: "0+1x40" },
        at: "10m",
        labels: { job: "kickoff" },
        summary: "Kickoff gives up one row or event after another",
        description:
          "About 40 of them became dead letters in the last 10 minutes, most likely for one and the same reason."
      },
      {
        when: "events are",
        series: {
          [series("kickoff_events_total", { outcome: "parked" })]: "0+1x40",
          [series("kickoff_schedule_rows_total", { kind: "notification", outcome: "parked" })]: "0x40"
        },
        at: "10m",
        labels: { job: "kickoff" },
        summary: "Kickoff gives up one row or event after another",
        description:
          "About 40 of them became dead letters in the last 10 minutes, most likely for one and the same reason."
      }
    ],
    isQuiet: [
      {
        when: "four rows and events were given up, and many succeed",
        series: {
          [series("kickoff_schedule_rows_total", { kind: "status-transition", outcome: "parked" })]: "0x10 4x30",
          [series("kickoff_events_total", { outcome: "parked" })]: "0x10 4x30",
          [series("kickoff_schedule_rows_total", { kind: "status-transition", outcome: "applied" })]: "0+100x40"
        },
        at: "10m"
      }
    ]
  },
  KickoffOutboxAgeing: {
    fires: [
      {
        when: "the first event stays",
        series: { [series("kickoff_outbox_oldest_seconds")]: "0+15x40" },
        at: "5m",
        labels: { job: "kickoff" },
        summary: "Events do not reach the broker",
        description:
          "The first event of the outbox has been waiting for 5m 0s. None is lost; nobody hears of what has happened since."
      }
    ],
    isQuiet: [
      {
        when: "a replayed event of long ago passes",
        series: { [series("kickoff_outbox_oldest_seconds")]: "0x4 90000 0x20" },
        at: "1m15s"
      },
      {
        when: "an event is refused a few times and goes",
        series: { [series("kickoff_outbox_oldest_seconds")]: "0+15x7 0x30" },
        at: "1m45s"
      }
    ]
  },
  KickoffNoRelay: {
    fires: [
      {
        when: "all processes stand by",
        series: {
          [series("kickoff_relay_leader")]: "1 1 0x20",
          [series("kickoff_relay_leader", { instance: "b:3000" })]: "0x20"
        },
        at: "3m",
        labels: { job: "kickoff" },
        summary: "No process relays events",
        description:
          "Processes with the role outbox are up, and none of them has the relay's lock: events stay in the outbox."
      }
    ],
    isQuiet: [
      {
        when: "the lock passes from one process to another",
        series: {
          [series("kickoff_relay_leader")]: "1x8 0x20",
          [series("kickoff_relay_leader", { instance: "b:3000" })]: "0x9 1x20"
        },
        at: "2m15s"
      }
    ]
  },
  KickoffTwoRelays: {
    fires: [
      {
        when: "two processes believe to have the lock",
        series: {
          [series("kickoff_relay_leader")]: "1x20",
          [series("kickoff_relay_leader", { instance: "b:3000" })]: "1x20"
        },
        at: "3m",
        labels: { job: "kickoff" },
        summary: "2 processes relay events",
        description:
          "Only one may hold the relay's lock. Events are published more than once, under the same ids, and may come out of order."
      }
    ],
    isQuiet: [
      {
        when: "they overlap for a moment",
        series: {
          [series("kickoff_relay_leader")]: "1x8 0x20",
          [series("kickoff_relay_leader", { instance: "b:3000" })]: "0x6 1x20"
        },
        at: "2m"
      },
      {
        when: "each of two installations has one",
        series: {
          [series("kickoff_relay_leader")]: "1x20",
          [series("kickoff_relay_leader", { job: "another", instance: "b:3000" })]: "1x20"
        },
        at: "3m"
      }
    ]
  },
  KickoffBrokerAway: {
    fires: [
      {
        when: "a process has no connection",
        series: {
          [series("kickoff_broker_connected")]: "1 0x20",
          [series("kickoff_broker_blocked")]: "0x20",
          [series("kickoff_broker_connected", { instance: "b:3000" })]: "1x20"
        },
        at: "3m",
        labels: instance,
        summary: "a:3000 does not reach the broker",
        description:
          "If it is the one that relays, events stay in the outbox. Games start and complete on time all the same."
      }
    ],
    isQuiet: [
      {
        when: "the broker has blocked it",
        series: { [series("kickoff_broker_connected")]: "0x20", [series("kickoff_broker_blocked")]: "1x20" },
        at: "3m"
      },
      {
        when: "it is back within a minute",
        series: { [series("kickoff_broker_connected")]: "1x4 0x2 1x20", [series("kickoff_broker_blocked")]: "0x30" },
        at: "1m45s"
      }
    ]
  },
  KickoffBrokerBlocked: {
    fires: [
      {
        when: "the broker blocks its publishers",
        series: {
          [series("kickoff_broker_blocked")]: "0 1x20",
          [series("kickoff_broker_blocked", { instance: "b:3000" })]: "0 1x20"
        },
        at: "3m",
        labels: { job: "kickoff" },
        summary: "The broker takes no events",
        description:
          "It has blocked its publishers, as RabbitMQ does when it runs out of memory or disk. Events stay in the outbox."
      }
    ],
    isQuiet: [
      {
        when: "it was blocked for a moment",
        series: { [series("kickoff_broker_blocked")]: "0x4 1 1 0x20" },
        at: "1m30s"
      },
      { when: "it takes events", series: { [series("kickoff_broker_blocked")]: "0x20" }, at: "3m" }
    ]
  },
  KickoffDatabaseAway: {
    fires: [
      {
        when: "the database does not answer",
        series: { [series("kickoff_database_up")]: "1 0x20" },
        at: "3m",
        labels: instance,
        summary: "a:3000 gets no answer from the database",
        description:
          "Nothing starts, nothing is planned and the API answers 503 until it does. Then everything that is due is caught up with."
      }
    ],
    isQuiet: [
      {
        when: "it misses one answer of many",
        series: { [series("kickoff_database_up")]: "1x4 0 1x4 0 1x20" },
        at: "1m15s"
      }
    ]
  },
  KickoffListenerDown: {
    fires: [
      {
        when: "there is no session for notifications",
        series: { [series("kickoff_listener_up")]: "1 0x20" },
        at: "3m",
        labels: instance,
        summary: "a:3000 hears no notifications of the database",
        description: "It looks every second instead, so what is planned at short notice may be a second late."
      }
    ],
    isQuiet: [
      {
        when: "a session was lost and is back",
        series: { [series("kickoff_listener_up")]: "1x4 0x2 1x20" },
        at: "1m45s"
      }
    ]
  },
  KickoffVacuumHeldBack: {
    fires: [
      {
        when: "an application keeps a snapshot",
        series: { [series("kickoff_xmin_held_seconds", { application: "reports" })]: "0+15x80" },
        at: "15m",
        labels: { job: "kickoff", application: "reports" },
        summary: "reports holds vacuum back",
        description:
          "Its snapshot or transaction has been open for long. What is done stays in the tables meanwhile, and every look at them becomes slower."
      },
      {
        when: "a replication slot does, of which nobody knows since when",
        series: {
          [series("kickoff_xmin_age_transactions", { application: "replication slot a" })]: "900000+30000x80"
        },
        at: "5m",
        labels: { job: "kickoff", application: "replication slot a" },
        summary: "replication slot a holds vacuum back",
        description:
          "Its snapshot or transaction has been open for long. What is done stays in the tables meanwhile, and every look at them becomes slower."
      }
    ],
    isQuiet: [
      {
        when: "a session sits there while little happens",
        series: { [series("kickoff_xmin_age_transactions", { application: "psql" })]: "999999x80" },
        at: "15m"
      },
      {
        when: "short transactions come and go",
        series: {
          [series("kickoff_xmin_held_seconds", { application: "" })]: "3x80",
          [series("kickoff_xmin_age_transactions", { application: "" })]: "50x80"
        },
        at: "15m"
      },
      {
        when: "a report lasts for a few minutes",
        series: { [series("kickoff_xmin_held_seconds", { application: "reports" })]: "0+15x20 stale" },
        at: "5m"
      }
    ]
  },
  KickoffDeadRows: {
    fires: [
      {
        when: "autovacuum does not come",
        series: {
          [series("kickoff_table_dead_rows", { table: "outbox" })]: "200000x200",
          [series("kickoff_table_live_rows", { table: "outbox" })]: "10x200"
        },
        at: "40m",
        labels: { job: "kickoff", table: "outbox" },
        summary: "The table outbox is not vacuumed",
        description: "200k of its rows are dead, more than are alive."
      }
    ],
    isQuiet: [
      {
        when: "it comes now and then",
        series: {
          [series("kickoff_table_dead_rows", { table: "outbox" })]: "200000x80 0x20 200000x80",
          [series("kickoff_table_live_rows", { table: "outbox" })]: "10x200"
        },
        at: "20m"
      },
      {
        when: "a small table is all dead rows",
        series: {
          [series("kickoff_table_dead_rows", { table: "outbox" })]: "50000x200",
          [series("kickoff_table_live_rows", { table: "outbox" })]: "0x200"
        },
        at: "40m"
      },
      {
        when: "a huge table has a few",
        series: {
          [series("kickoff_table_dead_rows", { table: "game_sessions" })]: "200000x200",
          [series("kickoff_table_live_rows", { table: "game_sessions" })]: "10000000x200"
        },
        at: "40m"
      }
    ]
  },
  KickoffClockOffset: {
    fires: [
      {
        when: "the clock of a process is behind",
        series: { [series("kickoff_clock_offset_seconds")]: "-2x40" },
        at: "6m",
        labels: instance,
        summary: "The clocks of a:3000 and of the database differ",
        description:
          "By 2s. The database's clock alone decides what is due: if it is the wrong one, everything happens at the wrong time."
      }
    ],
    isQuiet: [
      {
        when: "it differs by less than a second",
        series: { [series("kickoff_clock_offset_seconds")]: "0.9x40" },
        at: "6m"
      },
      {
        when: "it was set right",
        series: { [series("kickoff_clock_offset_seconds")]: "5x10 0x20" },
        at: "2m30s"
      }
    ]
  },
  KickoffBlind: {
    fires: [
      {
        when: "the database refuses a question",
        series: {
          [series("kickoff_database_metrics_errors_total", { error: "AuthorizationError" })]: "0+1x80",
          [series("kickoff_database_up")]: "1x80"
        },
        at: "15m",
        labels: { job: "kickoff" },
        summary: "The database refuses a question of the metrics",
        description: "It answers others, but some metrics are missing, and alerts on them are silent."
      }
    ],
    isQuiet: [
      {
        when: "it is away, which another alert says",
        series: {
          [series("kickoff_database_metrics_errors_total", { error: "ConnectionError" })]: "0+1x80",
          [series("kickoff_database_up")]: "0x80"
        },
        at: "15m"
      },
      {
        when: "it was away for a moment",
        series: {
          [series("kickoff_database_metrics_errors_total", { error: "ConnectionError" })]: "0 1 2x80",
          [series("kickoff_database_up")]: "1 0 1x80"
        },
        at: "3m"
      }
    ]
  },
  KickoffRoleUnplayed: {
    fires: roles.map((role) => ({
      when: `nobody plays ${role}`,
      series: Object.fromEntries(
        roles.filter((other) => other !== role).map((other) => [series("kickoff_role", { role: other }), "1x20"])
      ),
      at: "3m",
      labels: { role },
      summary: `No process plays the role ${role}`,
      description: "Every process that plays it is down, or cannot be scraped."
    })),
    isQuiet: [
      {
        when: "its only process is replaced",
        series: Object.fromEntries(
          roles.map((role) => [series("kickoff_role", { role }), role === "api" ? "1x4 stale stale 1x20" : "1x20"])
        ),
        at: "1m30s"
      },
      {
        when: "one process plays all",
        series: Object.fromEntries(roles.map((role) => [series("kickoff_role", { role }), "1x20"])),
        at: "3m"
      },
      {
        when: "one of two is down",
        series: Object.fromEntries([
          ...roles.map((role) => [series("kickoff_role", { role }), "1x20"]),
          [series("kickoff_role", { role: "outbox", instance: "b:3000" }), "1x4 stale"]
        ]),
        at: "3m"
      }
    ]
  },
  KickoffDown: {
    fires: [
      {
        when: "a process does not answer",
        series: { [series("up")]: "1 0x20", [series("up", { instance: "b:3000" })]: "1x20" },
        at: "4m",
        labels: instance,
        summary: "a:3000 is down",
        description:
          "It does not answer a scrape. Others may do its work: where none is left, KickoffRoleUnplayed says so."
      }
    ],
    isQuiet: [
      { when: "it was started anew", series: { [series("up")]: "1x4 0x3 1x20" }, at: "2m" },
      { when: "somebody else is down", series: { 'up{job="node",instance="a:9100"}': "0x20" }, at: "4m" }
    ]
  },
  KickoffRestarts: {
    fires: [
      {
        when: "a process starts again and again",
        series: { [series("process_start_time_seconds")]: "100x8 200x8 300x8 400x40" },
        at: "14m",
        labels: instance,
        summary: "a:3000 starts again and again",
        description: "It has started 3 times in the last 15 minutes."
      }
    ],
    isQuiet: [
      {
        when: "it was upgraded",
        series: { [series("process_start_time_seconds")]: "100x8 200x60" },
        at: "14m"
      }
    ]
  },
  KickoffLoopStuck: {
    fires: [
      {
        when: "a loop is silent",
        series: {
          [series("kickoff_loop_overdue_seconds", { loop: "outbox" })]: "0+15x20",
          [series("kickoff_loop_overdue_seconds", { loop: "listener" })]: "0x20"
        },
        at: "3m",
        labels: { ...instance, loop: "outbox" },
        summary: "The loop outbox of a:3000 makes no progress",
        description:
          "For 3m 0s, though nobody keeps it from its work. Its process is not live; whoever watches over it should start it anew."
      }
    ],
    isQuiet: [
      {
        when: "it was late once",
        series: { [series("kickoff_loop_overdue_seconds", { loop: "outbox" })]: "0x4 2 0x20" },
        at: "1m15s"
      }
    ]
  },
  KickoffServerErrors: {
    fires: [
      {
        when: "1 of 10 requests fails",
        series: {
          [series("kickoff_http_requests_total", { route: "/v1/games", status: "200" })]: "0+9x40",
          [series("kickoff_http_requests_total", { route: "/v1/games", status: "503" })]: "0+1x40"
        },
        at: "8m",
        labels: { job: "kickoff" },
        summary: "The API fails",
        description: "10% of the requests of the last 5 minutes were answered with a status of 500 or above."
      }
    ],
    isQuiet: [
      {
        when: "a few requests have just failed",
        series: { [series("kickoff_http_requests_total", { route: "/v1/games", status: "503" })]: "0+1x40" },
        at: "1m"
      },
      {
        when: "only probes are answered with 503",
        series: {
          [series("kickoff_http_requests_total", { route: "/v1/games", status: "200" })]: "0+9x40",
          [series("kickoff_http_requests_total", { route: "/health/ready", status: "503" })]: "0+5x40"
        },
        at: "8m"
      },
      {
        when: "1 of 200 requests fails",
        series: {
          [series("kickoff_http_requests_total", { route: "/v1/games", status: "200" })]: "0+199x40",
          [series("kickoff_http_requests_total", { route: "/v1/games", status: "500" })]: "0+1x40"
        },
        at: "8m"
      },
      {
        when: "clients send nonsense",
        series: { [series("kickoff_http_requests_total", { route: "/v1/games", status: "400" })]: "0+9x40" },
        at: "8m"
      }
    ]
  }
}

/** One test of promtool in its own notation. */
const toTest = (alert: (typeof alerts)[number], test: Fires | IsQuiet) => ({
  name: test.when,
  input_series: Object.entries(test.series).map(([series, values]) => ({ series, values })),
  alert_rule_test: [
    {
      eval_time: test.at,
      alertname: alert.alert,
      exp_alerts:
        "labels" in test
          ? [
              {
                exp_labels: { ...test.labels, severity: alert.labels.severity },
                exp_annotations: {
                  summary: test.summary,
                  description: test.description,
                  runbook_url: alert.annotations.runbook_url
                }
              }
            ]
          : []
    }
  ]
})

describe("the alerting rules", () => {
  it.live("are accepted by promtool without a remark", () =>
    Effect.promise(async () => {
      const { code, output } = await promtool(["check", "rules", "--lint=all", "--lint-fatal", rulesFile])
      assert.strictEqual(code, 0, output)
      assert.include(output, `${alerts.length} rules found`)
    })
  )

  it("are each tested for when they fire and when they are quiet", () => {
    assert.sameMembers(
      Object.keys(cases),
      alerts.map(({ alert }) => alert)
    )
    for (const [name, { fires, isQuiet }] of Object.entries(cases)) {
      assert.isNotEmpty(fires, name)
      assert.isNotEmpty(isQuiet, name)
    }
  })
})

for (const alert of alerts) {
  const { fires = [], isQuiet = [] } = cases[alert.alert] ?? {}
  describe(alert.alert, () => {
    for (const [verb, tests] of [
      ["fires", fires],
      ["is quiet", isQuiet]
    ] as const) {
      for (const test of tests) {
        it.live(`${verb} when ${test.when}`, () =>
          Effect.gen(function* () {
            const { code, output } = yield* judgeRules(toTest(alert, test))
            assert.strictEqual(code, 0, output)
          })
        )
      }
    }
  })
}
