/** Files that several protections speak of. */

export const dueLoop = { source: "src/scheduling/DueLoop.ts", test: "test/scheduling/DueLoop.test.ts" }
export const listener = { source: "src/postgres/Listener.ts", test: "test/contract/listener.test.ts" }
export const relay = { source: "src/outbox/Relay.ts", test: "test/outbox/Relay.test.ts" }
export const games = { source: "src/games/GameRepository.ts", test: "test/integration/games.test.ts" }
export const settings = { source: "src/Settings.ts", test: "test/Settings.test.ts" }
export const tables = { source: "migrations/0001_create_tables.ts", test: "test/integration/catalogue.test.ts" }
export const triggers = { source: "migrations/0002_create_triggers.ts", test: "test/integration/triggers.test.ts" }

/** Their first question: whether a row is due soon at all. */
export const marks = "migrations/0008_plan_far_games_cheaply.ts"

export const repositories = {
  schedule: "src/scheduling/ScheduleRepository.ts",
  transitions: "src/scheduling/StatusTransitionRepository.ts",
  notifications: "src/scheduling/NotificationRepository.ts",
  outbox: "src/outbox/OutboxRepository.ts"
}
export const suspects = "src/scheduling/suspects.ts"
export const session = "src/postgres/Session.ts"
export const database = "src/postgres/Database.ts"
export const link = "src/messaging/link.ts"

export const crashes = "test/integration/crashes.test.ts"
export const dueRepository = "test/contract/dueRepository.test.ts"
export const engine = "test/integration/engine.test.ts"
export const health = "test/observability/Health.test.ts"
export const interleavings = "test/integration/interleavings.test.ts"
export const outages = "test/integration/outages.test.ts"
export const plans = "test/integration/plans.test.ts"
export const outboxRepository = "test/contract/outboxRepository.test.ts"
export const publisher = "test/messaging/RabbitPublisher.integration.test.ts"
export const service = "test/end-to-end/service.test.ts"

/** How the schedules' common code claims a batch. */
export const claim =
  "apply(\n" +
  "      sql`${fresh} AND row.${due} <= now() AND row.${due} >= ${bound(from)}::timestamptz ${unlisted(except)}`,\n" +
  "      limit\n" +
  "    )"
