/** A publisher whose broker is the test's: it answers each event as it is told. */
import { Effect, Option } from "effect"
import { type CloudEvent, type CommittedEvent, encodeCloudEvent } from "../../src/domain/GameEvent.ts"
import { type PublishError, Publisher, type Rejected } from "../../src/messaging/Publisher.ts"

/** The event as a consumer sees it. */
const received = (event: CommittedEvent): CloudEvent =>
  // What was encoded a moment before is of the form that it was encoded in.
  JSON.parse(encodeCloudEvent(event)) as CloudEvent

export const answeringPublisher = (answer: (event: CloudEvent) => Effect.Effect<void, PublishError>) =>
  Publisher.of({
    publish: <E extends CommittedEvent>(
      sequences: ReadonlyArray<ReadonlyArray<E>>,
      onConfirmed: (event: E) => void
    ): Effect.Effect<ReadonlyArray<Rejected<E>>> =>
      Effect.map(
        Effect.forEach(
          sequences,
          Effect.fnUntraced(function* (sequence) {
            for (const event of sequence) {
              const error = yield* Effect.option(Effect.flip(answer(received(event))))
              if (Option.isSome(error)) return [{ event, error: error.value }]
              onConfirmed(event)
            }
            return []
          }),
          { concurrency: "unbounded" }
        ),
        (rejected) => rejected.flat()
      ),
    ready: Effect.void,
    state: Effect.succeed("connected"),
    run: Effect.never
  })
