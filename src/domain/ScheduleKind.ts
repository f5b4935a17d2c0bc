/** The kinds of schedule: what starts and completes games, and what reminds of them. */
import { Schema } from "effect"

export const ScheduleKind = Schema.Literals(["status-transition", "notification"])
export type ScheduleKind = typeof ScheduleKind.Type
