/** The model's steps and names of rows, and what database and API have in their place. */
import type { RowName } from "./commands.ts"
import { reminderOf } from "./model.ts"

/** When every history begins; the real time plays no part. */
const epoch = Date.UTC(2030, 0, 1)
export const minutesPerStep = 10
export const millisPerStep = minutesPerStep * 60_000

export const toDate = (step: number) => new Date(epoch + step * millisPerStep)
export const toStep = (instant: string) => (Date.parse(instant) - epoch) / millisPerStep
export const toStepOrNull = (instant: string | null) => (instant === null ? null : toStep(instant))

export const targetOf = (row: RowName) => (row === "start" ? "IN_PROGRESS" : "COMPLETED")
export const minutesOf = (row: RowName) => reminderOf(row) * minutesPerStep

/** The name of a row by what the database calls its target: a status, or minutes. */
export const targetName = (target: string) =>
  target === "IN_PROGRESS" ? "start" : target === "COMPLETED" ? "end" : `reminder ${Number(target) / minutesPerStep}`

export const rowName = (row: { readonly target_status?: string; readonly reminder_minutes?: number }) =>
  targetName(row.target_status ?? String(row.reminder_minutes))

export const toMinutes = (reminders: ReadonlyArray<number>) => reminders.map((reminder) => reminder * minutesPerStep)
