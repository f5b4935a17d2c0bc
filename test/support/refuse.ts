/** A database that refuses changes of games, as a broken application's trigger or a full disk would. */
import { Effect } from "effect"
import { SqlClient } from "effect/sql"

export interface Refusal {
  /** A condition over `NEW`, the game as it would be; every start unless given. */
  readonly when?: string
  /** The SQLSTATE of the refusal; that of a bare RAISE EXCEPTION unless given. */
  readonly state?: string
  /** A statement of PL/pgSQL that fails in a way of its own, instead of one that raises `state`. */
  readonly by?: string
}

/** Every start of a game with this title. */
export const startsOf = (title: string): string => `NEW.status = 'IN_PROGRESS' AND NEW.title = '${title}'`

/** Refuses changes of games until {@link acceptGames}. */
export const refuseGames = Effect.fnUntraced(function* (refusal: Refusal = {}) {
  const { state = "P0001", when = "NEW.status = 'IN_PROGRESS'" } = refusal
  const { by = `RAISE EXCEPTION 'this game is refused' USING ERRCODE = '${state}'` } = refusal
  const sql = yield* SqlClient.SqlClient
  yield* sql.unsafe(`
    CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$
    BEGIN
      ${by};
      RETURN NEW;
    END $$`)
  yield* sql.unsafe(`
    CREATE TRIGGER refuse BEFORE UPDATE ON game_sessions
    FOR EACH ROW WHEN (${when}) EXECUTE FUNCTION refuse()`)
})

/** Lets the changes through again. */
export const acceptGames = Effect.gen(function* () {
  const sql = yield* SqlClient.SqlClient
  yield* sql`DROP FUNCTION refuse() CASCADE`
})
