# What the daemon may do in Vault for the stack in desired/mail. Least privilege: every rule says what it is for; adapt the paths to yours.
#   vault policy write reconciler deploy/vault/reconciler.hcl
#   vault write auth/kubernetes/role/reconciler bound_service_account_names=reconciler \
#     bound_service_account_namespaces=reconciler token_policies=reconciler token_ttl=1h token_max_ttl=24h
# Looking up, renewing and revoking its own token comes from the policy "default".

# Claims: metadata without data, see plugins/reconciler_vault/registry.py. Deleting one deletes no value, because there is none.
path "secret/metadata/reconciler/*" {
  capabilities = ["create", "read", "update", "patch", "delete", "list"]
}

# Secrets are seen and marked by their metadata and the names of their keys.
path "secret/metadata/platform" {
  capabilities = ["create", "read", "update", "patch"]
}
path "secret/metadata/viktor" {
  capabilities = ["create", "read", "update", "patch"]
}
path "secret/metadata/mailserver" {
  capabilities = ["create", "read", "update", "patch"]
}
path "secret/subkeys/platform" {
  capabilities = ["read"]
}
path "secret/subkeys/viktor" {
  capabilities = ["read"]
}
path "secret/subkeys/mailserver" {
  capabilities = ["read"]
}

# "read" is for the expressions that put values into Kubernetes Secrets and notifications; no plan ever uses it.
path "secret/data/platform" {
  capabilities = ["read"]
}
path "secret/data/viktor" {
  capabilities = ["read"]
}
# Here values are made: "create" and "update" for a first version, "patch" for a key beside others. Nothing may delete one.
path "secret/data/mailserver" {
  capabilities = ["create", "update", "patch", "read"]
}

# The stack's policy and role. Whoever may write both may give away whatever a policy can say: name them, never use a star.
path "sys/policies/acl/mailserver" {
  capabilities = ["read", "create", "update", "delete"]
}
path "auth/kubernetes/role/mailserver" {
  capabilities = ["read", "create", "update", "delete"]
}

# The stack declares no mounts. To have them made and tuned, add "read" on sys/mounts and sys/auth, "update" on sys/mounts/<path> and
# sys/mounts/<path>/tune, and, for auth methods, "update" with "sudo" on sys/auth/<path> and sys/auth/<path>/tune. Disabling is never needed.
