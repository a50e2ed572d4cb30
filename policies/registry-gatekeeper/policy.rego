# Registry gatekeeper: where a build may take its sources from, and how firmly they must be named.
#
#   local context and Dockerfile   allowed
#   images                         from an approved registry, pinned by digest
#   Dockerfile frontends           the approved ones may be named by tag (`# syntax=docker/dockerfile:1`)
#   cache imports                  from the approved repositories alone
#   downloads (ADD https://…)      over HTTPS
#   git repositories               on an approved host over HTTPS or SSH, at a commit or a protected branch
#   blobs                          from an approved registry (their digest is part of their name)
#   anything else                  refused
#
# To edit: config.json. Nothing in this file needs to change.
#
#   registries      registry hosts, with the port where there is one; Docker Hub is "docker.io"
#   frontends       repositories of frontends that may be used by tag; empty the list to demand digests
#   caches          repositories that `--cache-from` may name
#   git_hosts       hosts of git repositories
#   protected_refs  full references that nobody can push to without review
#
# Nothing is fetched to decide, but for one case: a git source that names its branch in short
# (`#main`) must be looked up, for a tag may have the same name.

package docker

config := load_json("config.json")

default allow := false

allow if input.local

# Images

allow if {
	input.image
	not input.env.cacheImport
	approved_registry
	input.image.isCanonical
}

allow if {
	not input.env.cacheImport
	approved_frontend
}

allow if {
	input.env.cacheImport
	input.image.fullRepo in config.caches
}

approved_registry if input.image.host in config.registries

approved_frontend if input.image.fullRepo in config.frontends

deny_msg contains msg if {
	input.image
	not input.env.cacheImport
	not approved_registry
	not approved_frontend
	msg := sprintf("Image %s comes from %s, which is no approved registry: use one of %s.", [
		input.image.ref,
		input.image.host,
		concat(", ", config.registries),
	])
}

deny_msg contains msg if {
	input.image
	not input.env.cacheImport
	not input.image.isCanonical
	not approved_frontend
	msg := sprintf("Image %s is not pinned: name the digest too, as in %s@sha256:….", [
		input.image.ref,
		input.image.ref,
	])
}

deny_msg contains msg if {
	input.env.cacheImport
	input.image
	not input.image.fullRepo in config.caches
	msg := sprintf("Cache %s may not be imported: use one of %s.", [
		input.image.ref,
		concat(", ", config.caches),
	])
}

# Downloads

allow if input.http.schema == "https"

deny_msg contains msg if {
	input.http
	input.http.schema != "https"
	msg := sprintf("Download from %s travels unprotected over plain HTTP: use https://%s%s.", [
		input.http.host,
		input.http.host,
		input.http.path,
	])
}

# Git repositories. The reference comes last in each rule: it is the one thing that may have to be
# looked up.

allow if {
	approved_git_host
	protected_transport
	firm_reference
}

approved_git_host if input.git.host in config.git_hosts

protected_transport if input.git.schema in {"https", "ssh"}

firm_reference if input.git.isCommitRef

firm_reference if {
	not input.git.isCommitRef
	input.git.ref in config.protected_refs
}

deny_msg contains msg if {
	input.git
	not approved_git_host
	msg := sprintf("Git repository %s is on %s, which is no approved host: use one of %s.", [
		input.git.remote,
		input.git.host,
		concat(", ", config.git_hosts),
	])
}

deny_msg contains msg if {
	input.git
	not protected_transport
	msg := sprintf("Git repository %s travels unprotected over %s: use https:// or ssh.", [
		input.git.remote,
		input.git.schema,
	])
}

deny_msg contains msg if {
	approved_git_host
	protected_transport
	not firm_reference
	msg := sprintf("Git repository %s is taken at a reference that can move: name a full commit, or one of %s.", [
		input.git.remote,
		concat(", ", config.protected_refs),
	])
}

# Blobs and what else there is

allow if {
	input.blob.scheme == "docker-image+blob"
	input.blob.host in config.registries
}

deny_msg contains msg if {
	input.blob
	not allow
	msg := sprintf("Blob %s@%s comes from no approved registry: use one of %s.", [
		input.blob.fullRepo,
		input.blob.digest,
		concat(", ", config.registries),
	])
}

deny_msg contains msg if {
	input.ociLayout
	msg := sprintf("OCI layout %s has no registry to answer for it: push the image to one of %s and name it there.", [
		input.ociLayout.name,
		concat(", ", config.registries),
	])
}

decision := {"allow": allow, "deny_msg": deny_msg}
