/**
 * How often a row or event that cannot be processed is tried, and how long it rests in between.
 *
 * The pause doubles from 0.5 s to at most 30 s; how many tries there are is `KICKOFF_MAX_ATTEMPTS`. There is no jitter:
 * the rows that fail are few, and each is tried alone.
 */
import { Duration } from "effect"

export const firstPause = Duration.millis(500)
export const longestPause = Duration.seconds(30)

/** The rest after the given number of failed attempts, which is at least one. */
export const pauseAfter = (attempts: number): Duration.Duration =>
  Duration.min(longestPause, Duration.times(firstPause, 2 ** Math.min(attempts - 1, 30)))
