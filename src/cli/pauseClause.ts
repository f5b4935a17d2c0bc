/** How the commands tell of a pause: `since 2026-12-31T20:00:00.000Z, by root: the bot is being replaced`. */
import { DateTime } from "effect"
import type { Pause } from "../domain/Pause.ts"
import { plain } from "./terminal.ts"

export const toClause = ({ paused_at, paused_by, reason }: Pick<Pause, "paused_at" | "paused_by" | "reason">): string =>
  `since ${DateTime.formatIso(paused_at)}, by ${plain(paused_by)}${reason === null ? "" : `: ${plain(reason)}`}`
