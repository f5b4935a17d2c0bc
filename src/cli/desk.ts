/** What the commands that ask the database load when they run, so that `health` and `--version` stay fast. */
export { GameRepository } from "../games/GameRepository.ts"
export { LedgerRepository } from "../ledger/LedgerRepository.ts"
export { isClean, verify } from "../ledger/Verification.ts"
export { ForecastRepository } from "../operations/ForecastRepository.ts"
export { GameHistoryRepository } from "../operations/GameHistoryRepository.ts"
export { withDatabase, withLiveDatabase } from "./connection.ts"
