/** What docker-compose.yml mounts into Prometheus and Grafana fits together, and Prometheus accepts it. */
import { assert, describe, it } from "@effect/vitest"
import { Effect, Schema } from "effect"
import { readdirSync, readFileSync } from "node:fs"
import { join } from "node:path"
import { parse } from "yaml"
import grafanaSchema from "@grafana/schema/package.json" with { type: "json" }
import { repository, written } from "../image/composeFile.ts"
import { promtool } from "../support/promtool.ts"

const read = (file: string): unknown => parse(readFileSync(join(repository, file), "utf8"))

/** From the repository's folder to the container's, as a service of docker-compose.yml mounts them. */
const mounts = (service: string) =>
  new Map(
    (written.services[service]?.volumes ?? [])
      .map((volume) => volume.split(":"))
      .map(([source = "", target = ""]) => [target, source.replace(/^\.\//, "")])
  )

const Prometheus = Schema.Struct({
  rule_files: Schema.Array(Schema.String),
  scrape_configs: Schema.Array(
    Schema.Struct({
      job_name: Schema.String,
      dns_sd_configs: Schema.optionalKey(
        Schema.Array(Schema.Struct({ names: Schema.Array(Schema.String), port: Schema.Int }))
      )
    })
  )
})

describe("the configuration of Prometheus", () => {
  it.live("is accepted by promtool, with the rules that it names", () =>
    Effect.promise(async () => {
      const { code, output } = await promtool(["check", "config", join(repository, "docker/prometheus/prometheus.yml")])
      assert.strictEqual(code, 0, output)
      assert.match(output, /docker\/prometheus\/alerts\.yml\n\s+SUCCESS: \d+ rules found/)
    })
  )

  it("scrapes every service that serves, where it listens, and nothing else of Kickoff", () => {
    const { rule_files, scrape_configs } = Schema.decodeUnknownSync(Prometheus)(
      read("docker/prometheus/prometheus.yml")
    )
    assert.deepStrictEqual(rule_files, ["alerts.yml"])
    const serving = Object.entries(written.services)
      .filter(([name, { image, restart }]) => image.startsWith("kickoff:") && restart !== "no" && name !== "migrate")
      .map(([name]) => name)
    const kickoff = scrape_configs.find(({ job_name }) => job_name === "kickoff")
    assert.deepStrictEqual(
      kickoff?.dns_sd_configs?.map(({ port }) => port),
      [3000]
    )
    assert.sameMembers([...(kickoff?.dns_sd_configs?.[0]?.names ?? [])], serving)
    assert.strictEqual(mounts("prometheus").get("/etc/prometheus"), "docker/prometheus")
  })
})

const DataSources = Schema.Struct({
  datasources: Schema.Array(Schema.Struct({ uid: Schema.String, url: Schema.String }))
})

const Providers = Schema.Struct({
  providers: Schema.Array(Schema.Struct({ options: Schema.Struct({ path: Schema.String }) }))
})

describe("what Grafana is provisioned with", () => {
  it("is the Prometheus of the stack, by the uid that the dashboard names", () => {
    assert.strictEqual(mounts("grafana").get("/etc/grafana/provisioning"), "docker/grafana/provisioning")
    const { datasources } = Schema.decodeUnknownSync(DataSources)(
      read("docker/grafana/provisioning/datasources/prometheus.yml")
    )
    assert.deepStrictEqual(
      datasources.map(({ uid, url }) => ({ uid, url })),
      [{ uid: "prometheus", url: "http://prometheus:9090" }]
    )
  })

  it("is the folder of dashboards that docker-compose.yml mounts, with the dashboard in it", () => {
    const { providers } = Schema.decodeUnknownSync(Providers)(
      read("docker/grafana/provisioning/dashboards/kickoff.yml")
    )
    const folders = providers.map(({ options }) => mounts("grafana").get(options.path))
    assert.deepStrictEqual(folders, ["docker/grafana/dashboards"])
    assert.deepStrictEqual(readdirSync(join(repository, "docker/grafana/dashboards")), ["kickoff.json"])
  })

  it("is a dashboard that is checked against the types of the Grafana that shows it", () => {
    assert.strictEqual(written.services["grafana"]?.image, `grafana/grafana:${grafanaSchema.version}`)
  })
})
