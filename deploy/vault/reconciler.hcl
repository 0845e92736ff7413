# What the daemon may do in Vault for the stack in desired/mail. Least privilege: every rule names who needs it; adapt the paths to yours.
#   vault policy write reconciler deploy/vault/reconciler.hcl
#   vault write auth/kubernetes/role/reconciler bound_service_account_names=reconciler \
#     bound_service_account_namespaces=reconciler token_policies=reconciler token_ttl=1h token_max_ttl=24h
# Looking up and renewing its own token comes from the policy "default".

# Claims: metadata without data, see plugins/reconciler_vault/registry.py. Deleting one deletes no value, because there is none.
path "secret/metadata/reconciler/*" {
  capabilities = ["create", "read", "update", "patch", "delete", "list"]
}

# Secrets: see and mark by metadata and key names; make missing keys by check-and-set.
path "secret/metadata/platform" {
  capabilities = ["create", "read", "update", "patch"]
}
path "secret/subkeys/platform" {
  capabilities = ["read"]
}
# "read" is here for the expressions that put values into Kubernetes Secrets and notifications; without such, take it out.
path "secret/data/platform" {
  capabilities = ["create", "update", "patch", "read"]
}
path "secret/metadata/viktor" {
  capabilities = ["create", "read", "update", "patch"]
}
path "secret/subkeys/viktor" {
  capabilities = ["read"]
}
path "secret/data/viktor" {
  capabilities = ["create", "update", "patch", "read"]
}

# Policies and roles of the stack. Whoever may write a policy and a role may give away what the policy says: keep the names narrow.
path "sys/policies/acl/mail*" {
  capabilities = ["read", "create", "update", "delete"]
}
path "auth/kubernetes/role/mail*" {
  capabilities = ["read", "create", "update", "delete"]
}

# Mounts are only looked at. To have them made and tuned, add "update" on sys/mounts/<path> and sys/mounts/<path>/tune, and, for auth
# methods, "update" with "sudo" on sys/auth/<path> and sys/auth/<path>/tune. No rule for disabling one is ever needed.
path "sys/mounts" {
  capabilities = ["read"]
}
path "sys/auth" {
  capabilities = ["read"]
}
