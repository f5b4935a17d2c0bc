/** Builds the image once per run; the tests get its files and what it says of itself. */
import type { TestProject } from "vitest/node"
import { buildImage, type Image } from "./buildImage.ts"

declare module "vitest" {
  interface ProvidedContext {
    readonly image: Image
  }
}

export default async (project: TestProject) => {
  const { image, remove } = await buildImage()
  project.provide("image", image)
  return remove
}
