/**
 * How our sessions call themselves in `pg_stat_activity`, so that an operator sees which process does what.
 *
 * The server cuts a name off after 63 bytes, so it is made to fit: what tells replicas apart is the end of their names.
 */

/** Most characters of a replica; with the longest part, `status-transitions`, they make 63. */
export const replicaLength = 36

/**
 * What the sessions of a process in shadow are called instead, so that nobody takes it for one that does the work. They
 * are as short as the others.
 */
export const shadowParts = {
  api: "shadow-api",
  pool: "shadow-pool",
  "status-transitions": "shadow-transitions",
  notifications: "shadow-reminders"
} as const

/** `kickoff:<part>@<replica>`. */
export const sessionName = (part: string, replica: string): string => `kickoff:${part}@${replica.slice(-replicaLength)}`
