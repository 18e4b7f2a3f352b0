# The commands of daily work; `just` without arguments lists them.

_list:
    @just --list --unsorted

# formatting, lints and types: before each commit
check:
    cargo fmt --all --check
    cargo clippy --locked --workspace --all-targets -- -D warnings

# all tests that need no cluster; as root
test *arguments:
    cargo test --locked {{ arguments }}

# the suite against the cluster whose admin kubeconfig is given: just real ~/.kube/config copy::
real kubeconfig *tests:
    D2K_TEST_KUBECONFIG={{ kubeconfig }} cargo test --locked --test real -- --test-threads 5 {{ tests }}

# the other Docker clients, against the engine at DOCKER_HOST
clients *arguments:
    tests/clients/run {{ arguments }}

# writes generated documents and golden files anew
bless:
    D2K_BLESS=1 cargo test --locked --test tidy --test translate

# the documentation of the source
doc:
    RUSTDOCFLAGS="-D warnings -A rustdoc::private-intra-doc-links" cargo doc --locked --workspace --no-deps --lib --document-private-items

# the policies and the helper, which are committed as binaries
binaries:
    plugins/build
    src/init/build

# the image of d2k as an OCI archive
image *arguments:
    deploy/image {{ arguments }}

# all that has to hold before a change is merged
ci:
    .ci/run
