# Shortcuts for https://just.systems; each recipe is a command that also works without it.

# Lists the recipes.
default:
    @just --list

# Starts the demo on http://127.0.0.1:4000/graphiql.
demo:
    cargo run --locked -- demo

# Starts the server without demo data.
serve *args:
    cargo run --locked -- serve {{ args }}

# Runs the tests, or those whose name contains the filter: `just test idempotency`.
test *filter:
    cargo test --locked --test it -- {{ filter }}

# Runs all checks of CI, or one step of them: `just ci lint`, `just ci test`, `just ci clients`.
ci *step:
    .ci/run {{ step }}

# Formats the code.
fmt:
    cargo fmt --all

# Runs clippy and builds the documentation, both without warnings.
lint:
    cargo clippy --workspace --all-targets --locked -- -D warnings
    RUSTDOCFLAGS="-D warnings" cargo doc --workspace --no-deps --document-private-items --locked

# Writes the golden file of the GraphQL schema; look at its diff before you commit it.
schema:
    cargo run -- schema > target/schema.graphql
    mv target/schema.graphql schema.graphql

# Prints the state machines; docs/states.md must contain each diagram.
states:
    cargo run -- state-machines

# Runs the benchmark of docs/performance.md: `just bench pages detail`.
bench *sections:
    cargo bench --bench speed -- {{ sections }}

# Runs the readers of untrusted text on generated input, for so many seconds each.
fuzz seconds="60":
    SORTIE_FUZZ_SECONDS={{ seconds }} cargo test --locked --test it -- evaluation::fuzz
