/** What a statement of Kickoff is for, judged by its text as `pg_stat_statements` shows it. */

export const kinds = ["look", "outbox", "heartbeat", "lock", "other"] as const

export type Kind = (typeof kinds)[number]

const signs: ReadonlyArray<readonly [Kind, RegExp]> = [
  ["lock", /\bpg_try_advisory_lock\b/],
  ["heartbeat", /\bpg_notify\b|^SELECT \$1$|^SELECT 1$/],
  ["look", /\b(game_status_schedule|notification_schedule)\b/],
  ["outbox", /\boutbox\b/]
]

/** The first kind whose sign the text bears. */
export const kindOf = (query: string): Kind => signs.find(([, sign]) => sign.test(query))?.[0] ?? "other"
