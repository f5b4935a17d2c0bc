/** What `verify` and `backfill` load when they run. */
export { GameRepository } from "../games/GameRepository.ts"
export { LedgerRepository } from "../ledger/LedgerRepository.ts"
export { isClean, verify } from "../ledger/Verification.ts"
export { withDatabase } from "./connection.ts"
