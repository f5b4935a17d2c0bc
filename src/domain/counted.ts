/** Numbers of things in sentences for people. */

/** `1 row`, `2 rows`; a plural of its own where an s is not enough. */
export const counted = (count: number, one: string, many: string = `${one}s`): string =>
  `${count} ${count === 1 ? one : many}`
