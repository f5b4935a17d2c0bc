/** All protections, by what they protect. */
import { claiming } from "./claiming.ts"
import { listening } from "./listening.ts"
import { living } from "./living.ts"
import type { Protection } from "./Protection.ts"
import { publishing } from "./publishing.ts"
import { waiting } from "./waiting.ts"

export const protections: ReadonlyArray<Protection> = [...waiting, ...listening, ...claiming, ...publishing, ...living]
