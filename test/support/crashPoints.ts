/** Every place between two steps of the way of an event, from the claim to the deletion from the outbox. */
export const crashPoints = [
  "nowhere",
  "before the claim",
  "during the claim",
  "a moment after the claim began",
  "after the commit",
  "before the publish",
  "between publish and confirm",
  "after the confirm",
  "before the delete",
  "during the delete",
  "after the delete"
] as const

export type CrashPoint = (typeof crashPoints)[number]
