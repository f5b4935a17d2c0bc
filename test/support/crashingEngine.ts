/**
 * The engine as a program that kills itself with SIGKILL at one step, as a power cut would.
 *
 * Run with `DATABASE_URL`, `RABBITMQ_URL`, `RABBITMQ_EXCHANGE` and, in `CRASH_AT`, one of {@link crashPoints}. Steps are
 * taken by wrapping the layers, so that the program under test has no knowledge of them.
 */
import { NodeRuntime } from "@effect/platform-node"
import { Config, Context, type Duration, Effect, Layer } from "effect"
import { Publisher } from "../../src/messaging/Publisher.ts"
import { RabbitPublisher } from "../../src/messaging/RabbitPublisher.ts"
import { Health } from "../../src/observability/Health.ts"
import { OutboxRepository } from "../../src/outbox/OutboxRepository.ts"
import { OutboxSignal } from "../../src/outbox/OutboxSignal.ts"
import { Database } from "../../src/postgres/Database.ts"
import { Listener } from "../../src/postgres/Listener.ts"
import type { DueRepository } from "../../src/scheduling/DueRepository.ts"
import { NotificationRepository } from "../../src/scheduling/NotificationRepository.ts"
import { StatusTransitionRepository } from "../../src/scheduling/StatusTransitionRepository.ts"
import { Settings } from "../../src/Settings.ts"
import { type CrashPoint, crashPoints } from "./crashPoints.ts"
import { runDaemons } from "./daemons.ts"

const crash = Effect.sync(() => process.kill(process.pid, "SIGKILL"))

const program = Effect.gen(function* () {
  const url = yield* Config.Redacted("DATABASE_URL")
  const crashAt = yield* Config.Literals(crashPoints, "CRASH_AT")
  const at = (point: CrashPoint) => (point === crashAt ? crash : Effect.void)
  /** Kills while the effect is under way, or, where it is too fast for that, just after it. */
  const during =
    (point: CrashPoint, after: Duration.Input = "1 millis") =>
    <A, E, R>(effect: Effect.Effect<A, E, R>): Effect.Effect<A, E, R> =>
      point === crashAt
        ? Effect.forkChild(effect).pipe(
            Effect.andThen(Effect.sleep(after)),
            Effect.andThen(crash),
            Effect.andThen(Effect.never)
          )
        : effect

  const breakable = (repository: DueRepository): DueRepository => ({
    ...repository,
    applyDue: (...batch) =>
      at("before the claim").pipe(
        Effect.andThen(
          during(
            "a moment after the claim began",
            "50 millis"
          )(during("during the claim")(repository.applyDue(...batch)))
        ),
        Effect.tap((rows) => (rows.length > 0 ? at("after the commit") : Effect.void))
      )
  })

  const publisher = Layer.effect(
    Publisher,
    Effect.map(Publisher, (real) =>
      Publisher.of({
        ...real,
        publish: (sequences, onConfirmed) =>
          at("before the publish").pipe(
            Effect.andThen(during("between publish and confirm")(real.publish(sequences, onConfirmed))),
            Effect.tap(at("after the confirm"))
          )
      })
    )
  ).pipe(Layer.provide(RabbitPublisher.layer))

  const outbox = Layer.effect(
    OutboxRepository,
    Effect.map(OutboxRepository, (real) =>
      OutboxRepository.of({
        ...real,
        remove: (ids) =>
          ids.length === 0
            ? Effect.succeed(0)
            : at("before the delete").pipe(
                Effect.andThen(during("during the delete")(real.remove(ids))),
                Effect.tap(at("after the delete"))
              )
      })
    )
  ).pipe(Layer.provide(OutboxRepository.layer))

  const schedules = Layer.effectContext(
    Effect.gen(function* () {
      const transitions = breakable(yield* StatusTransitionRepository)
      const reminders = breakable(yield* NotificationRepository)
      return Context.make(StatusTransitionRepository, transitions).pipe(Context.add(NotificationRepository, reminders))
    })
  ).pipe(Layer.provide(Layer.merge(StatusTransitionRepository.layer, NotificationRepository.layer)))

  yield* runDaemons(url).pipe(
    Effect.provide(
      Layer.mergeAll(schedules, outbox, OutboxSignal.layer, publisher, Listener.layer(url)).pipe(
        Layer.provideMerge(Layer.mergeAll(Health.layer, Settings.layer)),
        Layer.provideMerge(Database.layer({ url, connections: 5, name: "crashing" }))
      )
    )
  )
})

NodeRuntime.runMain(program)
