# What the daemon may do in Vault for the stack in desired/mail. Least privilege: every rule says what it is for; adapt the paths to yours.
#   vault policy write reconciler deploy/vault/reconciler.hcl
# In a cluster it logs in as its service account:
#   vault write auth/kubernetes/role/reconciler bound_service_account_names=reconciler \
#     bound_service_account_namespaces=reconciler token_policies=reconciler token_ttl=1h token_max_ttl=24h
# Outside by an AppRole, whose secret id lies in a file that only the daemon reads and may be replaced at any time (secret_id_file):
#   vault write auth/approle/role/reconciler token_policies=reconciler token_ttl=1h token_max_ttl=24h secret_id_bound_cidrs=192.0.2.7/32
#   vault read -field=role_id auth/approle/role/reconciler/role-id
#   vault write -f -field=secret_id auth/approle/role/reconciler/secret-id > /run/secrets/vault-secret-id
# Or by a token that an agent keeps fresh in a file (token_file).
# Looking up, renewing and revoking its own token comes from the policy "default".

# Claims: metadata without data, see plugins/reconciler_vault/registry.py. Deleting one deletes no value, because there is none.
path "secret/metadata/reconciler/*" {
  capabilities = ["create", "read", "update", "patch", "delete", "list"]
}

# Secrets are seen by the names of their keys (subkeys) and marked in their metadata, where "patch" also keeps the note of which key has which
# value, see docs/decisions/0011. Without "patch" a write to any key of a path rewrites every consumer of the path.
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

# "read" is for passes that put values into Kubernetes Secrets and notifications, after a rotation; "reconciler plan" never uses it.
path "secret/data/platform" {
  capabilities = ["read"]
}
path "secret/data/viktor" {
  capabilities = ["read"]
}
# Here values are made: "create" and "update" for a first version, "patch" for a key beside others. Nothing may delete one: every secret of
# the stack says delete: retain. Where one says "soft", add "update" on secret/delete/<path>, by which the planned version is deleted and no
# newer one, and never "delete" on secret/data/<path>; where one says "purge", add "delete" on secret/metadata/<path>.
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

# The stack declares no identity groups. A group may give away any policy: name it, with "read", "create", "update" and "delete" on
# identity/group/name/<name>.

# The stack declares no mounts. To have them made and tuned, add "read" on sys/mounts and sys/auth, "update" on sys/mounts/<path> and
# sys/mounts/<path>/tune, and, for auth methods, "update" with "sudo" on sys/auth/<path> and sys/auth/<path>/tune. Disabling is never needed.
