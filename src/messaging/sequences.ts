/**
 * Publishes events that must keep an order, one after the other, beside others that need not wait for them.
 *
 * It works by callbacks, without a fiber for each event: a burst has thousands of them at once.
 */
import { Effect } from "effect"
import type { CommittedEvent } from "../domain/GameEvent.ts"
import { PublishError, type Rejected } from "./Publisher.ts"

/** Told once for each event: nothing when it was confirmed. */
export type Settle = (refusal?: PublishError["reason"]) => void

/** What {@link Publisher.publish} promises, for a way to send one event; `send` returns how to take it back. */
export const publishSequences =
  (send: (event: CommittedEvent, settle: Settle) => () => void) =>
  <E extends CommittedEvent>(
    sequences: ReadonlyArray<ReadonlyArray<E>>,
    onConfirmed: (event: E) => void
  ): Effect.Effect<ReadonlyArray<Rejected<E>>> =>
    Effect.callback((resume) => {
      const rejected: Array<Rejected<E>> = []
      const takeBack = new Map<ReadonlyArray<E>, () => void>()
      let open = sequences.length
      let interrupted = false

      const end = () => {
        if (--open === 0) resume(Effect.succeed(rejected))
      }
      const go = (sequence: ReadonlyArray<E>, position: number) => {
        const event = sequence[position]
        if (event === undefined) return end()
        let settled = false
        const cancel = send(event, (refusal) => {
          settled = true
          takeBack.delete(sequence)
          if (interrupted) return
          if (refusal === undefined) {
            onConfirmed(event)
            go(sequence, position + 1)
          } else {
            rejected.push({ event, error: new PublishError({ event_id: event.event_id, reason: refusal }) })
            end()
          }
        })
        if (!settled) takeBack.set(sequence, cancel)
      }

      if (open === 0) resume(Effect.succeed(rejected))
      for (const sequence of sequences) go(sequence, 0)
      return Effect.sync(() => {
        interrupted = true
        for (const cancel of takeBack.values()) cancel()
      })
    })
