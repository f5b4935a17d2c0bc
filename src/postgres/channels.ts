/** The notification channels, named once: the triggers of `migrations/` and other applications use the same names. */
export const channels = {
  statusTransitions: "game_status_schedule_changed",
  notifications: "notification_schedule_changed",
  outbox: "outbox_changed",
  pauses: "pauses_changed"
} as const

export type Channel = (typeof channels)[keyof typeof channels]
