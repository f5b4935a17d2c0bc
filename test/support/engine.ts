/** The whole engine on a real database, in this process: two loops, the listener, and the relay with a memory of events. */
import { Context, Effect, Layer, Queue } from "effect"
import type { CloudEvent } from "../../src/domain/GameEvent.ts"
import { type PublishError, Publisher } from "../../src/messaging/Publisher.ts"
import { Health } from "../../src/observability/Health.ts"
import { OutboxSignal } from "../../src/outbox/OutboxSignal.ts"
import { Listener } from "../../src/postgres/Listener.ts"
import { Settings } from "../../src/Settings.ts"
import { answeringPublisher } from "./answeringPublisher.ts"
import { repositories, runDaemons } from "./daemons.ts"
import { TestDatabase } from "./TestDatabase.ts"

/** What the relay published, in order, and a switch for how the broker answers. */
export class Broker extends Context.Service<
  Broker,
  {
    readonly received: Queue.Queue<CloudEvent>
    /** Replaces the broker's answer; the default takes everything. */
    answer: (event: CloudEvent) => Effect.Effect<void, PublishError>
  }
>()("kickoff/test/Broker") {}

const publisher = Layer.effectContext(
  Effect.gen(function* () {
    const received = yield* Queue.unbounded<CloudEvent>()
    const broker: Broker["Service"] = { received, answer: () => Effect.void }
    return Context.make(Broker, broker).pipe(
      Context.add(
        Publisher,
        answeringPublisher((event) => Effect.andThen(broker.answer(event), Effect.asVoid(Queue.offer(received, event))))
      )
    )
  })
)

/** Everything that the daemons need, on a fresh database. */
export const engineLayer = (settings: Parameters<typeof Settings.layerWith>[0] = {}) => {
  const listener = Layer.unwrap(Effect.map(TestDatabase, ({ url }) => Listener.layer(url)))
  return Layer.mergeAll(repositories, OutboxSignal.layer, listener, publisher, Settings.layerWith(settings)).pipe(
    Layer.provideMerge(Health.layer),
    Layer.provideMerge(TestDatabase.layer)
  )
}

/** Runs loops, listener and relay until interrupted. */
export const engine = Effect.flatMap(TestDatabase, ({ url }) => runDaemons(url))
