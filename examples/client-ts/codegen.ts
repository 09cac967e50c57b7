import type { CodegenConfig } from "@graphql-codegen/cli";

const config: CodegenConfig = {
  schema: "../../schema.graphql",
  documents: "src/*.ts",
  generates: {
    "src/gql/": {
      preset: "client",
      presetConfig: { fragmentMasking: false },
      config: {
        // Documents are sent as text; nothing of the package `graphql` is needed to build them.
        documentMode: "string",
        enumsAsTypes: true,
        // Only what the documents use. All types together would not compile: the schema's type `Record` hides TypeScript's.
        onlyOperationTypes: true,
        useTypeImports: true,
        // Every scalar of the schema has a type here; a new one fails the generation.
        strictScalars: true,
        scalars: {
          DateTime: "string",
          Duration: "string",
          FailWhen: "string",
          JSON: "unknown",
          Number: "string | number",
          Trigger: "string",
        },
      },
    },
  },
  emitLegacyCommonJSImports: false,
};

export default config;
