# Production lockdown: a build may use what we built ourselves, what we looked at, and little else.
#
#   local context and Dockerfile   allowed
#   internal images                by digest, with provenance that names our builder and our source
#   base images, frontends         the approved digests alone
#   downloads (ADD https://…)      over HTTPS, from an approved host, with ADD --checksum=
#   our git repositories           at a commit
#   outside git repositories       at a tag that one of their maintainers signed
#   caches, OCI layouts, blobs     refused: they decide what steps produce, and nobody vouches for them
#
# To edit: config.json, and the key ring beside it. Nothing in this file needs to change.
#
#   internal.registry      host of our registry
#   internal.builders      builder identities, exactly as provenance gives them
#   internal.sources       prefixes of the repositories we build from; end each with a slash
#   images                 repository → the digests that were approved
#   download_hosts         hosts of downloads
#   git.internal           prefixes of our repositories; end each with a slash
#   git.outside            prefixes of the repositories whose signed tags may be used
#   keys/maintainers.asc   OpenPGP keys of their maintainers. The key that comes with this policy is an
#                          example whose private half is gone: nothing verifies until you replace it.
#
# Provenance says who built an image; whoever can push to the registry can say it. Where images are
# signed too, demand that in `proven` (`input.image.signatures`).
#
# Declared checksums (`input.http.declaredChecksum`) are buildgate's: Docker's own engine does not
# show them, and refuses every download by this policy.
#
# What the source says of itself is checked first. Provenance is fetched for internal images that
# are pinned, a tag for repositories that may be used, and nothing else is fetched at all.

package docker

config := load_json("config.json")

default allow := false

allow if input.local

# Images

allow if {
	not input.env.cacheImport
	internal_image
	input.image.isCanonical
	proven
}

allow if {
	not input.env.cacheImport
	input.image.isCanonical
	input.image.checksum in config.images[input.image.fullRepo]
}

internal_image if input.image.host == config.internal.registry

listed_image if config.images[input.image.fullRepo]

proven if {
	known_builder
	known_source
}

known_builder if input.image.provenance.builderID in config.internal.builders

known_source if {
	some prefix in config.internal.sources
	startswith(input.image.provenance.configSource.uri, prefix)
}

deny_msg contains msg if {
	input.env.cacheImport
	input.image
	msg := sprintf("Cache %s may not be imported: build without --cache-from.", [input.image.ref])
}

deny_msg contains msg if {
	input.image
	not input.env.cacheImport
	not internal_image
	not listed_image
	msg := sprintf("Image %s is no approved base image: use one of %s, or an image of %s.", [
		input.image.ref,
		concat(", ", object.keys(config.images)),
		config.internal.registry,
	])
}

deny_msg contains msg if {
	not input.env.cacheImport
	listed_image
	not input.image.isCanonical
	msg := sprintf("Image %s is not pinned: use an approved digest, as in %s@%s.", [
		input.image.ref,
		input.image.fullRepo,
		config.images[input.image.fullRepo][0],
	])
}

deny_msg contains msg if {
	not input.env.cacheImport
	listed_image
	input.image.isCanonical
	not input.image.checksum in config.images[input.image.fullRepo]
	msg := sprintf("Image %s has a digest that was not approved: use %s.", [
		input.image.ref,
		concat(" or ", config.images[input.image.fullRepo]),
	])
}

deny_msg contains msg if {
	not input.env.cacheImport
	internal_image
	not listed_image
	not input.image.isCanonical
	msg := sprintf("Internal image %s is not pinned: name the digest too, as in %s@sha256:….", [
		input.image.ref,
		input.image.ref,
	])
}

deny_msg contains msg if {
	pinned_internal_image
	not input.image.hasProvenance
	msg := sprintf("Internal image %s has no provenance: build it in our pipeline, with --provenance=mode=max.", [input.image.ref])
}

deny_msg contains msg if {
	pinned_internal_image
	input.image.hasProvenance
	not known_builder
	msg := sprintf("Internal image %s was not built by us: its provenance must name the builder %s.", [
		input.image.ref,
		concat(" or ", config.internal.builders),
	])
}

deny_msg contains msg if {
	pinned_internal_image
	input.image.hasProvenance
	not known_source
	msg := sprintf("Internal image %s was not built from our source: its provenance must name a source under %s.", [
		input.image.ref,
		concat(" or ", config.internal.sources),
	])
}

pinned_internal_image if {
	not input.env.cacheImport
	internal_image
	not listed_image
	input.image.isCanonical
}

# Downloads

allow if {
	input.http.schema == "https"
	approved_download_host
	input.http.declaredChecksum
}

approved_download_host if input.http.host in config.download_hosts

deny_msg contains msg if {
	input.http
	input.http.schema != "https"
	msg := sprintf("Download from %s travels unprotected over plain HTTP: use https://.", [input.http.host])
}

deny_msg contains msg if {
	input.http
	not approved_download_host
	msg := sprintf("Download from %s is not allowed: put the file on one of %s.", [
		input.http.host,
		concat(", ", config.download_hosts),
	])
}

deny_msg contains msg if {
	input.http
	not input.http.declaredChecksum
	msg := sprintf("Download %s from %s declares no checksum: use ADD --checksum=sha256:….", [
		input.http.path,
		input.http.host,
	])
}

# Git repositories. Ours are checked before the others, and the signature last of all.

allow if {
	internal_repository
	input.git.isCommitRef
}

allow if {
	outside_repository
	named_tag
	signed_by_maintainer
}

internal_repository if {
	some prefix in config.git.internal
	startswith(input.git.remote, prefix)
}

outside_repository if {
	not internal_repository
	some prefix in config.git.outside
	startswith(input.git.remote, prefix)
}

named_tag if startswith(input.git.ref, "refs/tags/")

signed_by_maintainer if verify_git_signature(input.git.tag, "keys/maintainers.asc")

deny_msg contains msg if {
	internal_repository
	not input.git.isCommitRef
	msg := sprintf("Git repository %s must be taken at a full commit, as in %s#<commit>.", [
		input.git.remote,
		input.git.remote,
	])
}

deny_msg contains msg if {
	outside_repository
	not named_tag
	msg := sprintf("Git repository %s must be taken at a signed tag, as in %s#refs/tags/v1.0.0.", [
		input.git.remote,
		input.git.remote,
	])
}

deny_msg contains msg if {
	outside_repository
	named_tag
	not signed_by_maintainer
	msg := sprintf("Tag %s of %s is not signed by a maintainer in keys/maintainers.asc.", [
		input.git.ref,
		input.git.remote,
	])
}

deny_msg contains msg if {
	input.git
	not internal_repository
	not outside_repository
	msg := sprintf("Git repository %s is not allowed: use one under %s.", [
		input.git.remote,
		concat(", ", array.concat(config.git.internal, config.git.outside)),
	])
}

# What else there is

deny_msg contains msg if {
	input.ociLayout
	msg := sprintf("OCI layout %s may not be used: push the image to %s, with provenance.", [
		input.ociLayout.name,
		config.internal.registry,
	])
}

deny_msg contains msg if {
	input.blob
	msg := sprintf("Blob %s@%s may not be used: use an image of %s.", [
		input.blob.fullRepo,
		input.blob.digest,
		config.internal.registry,
	])
}

decision := {"allow": allow, "deny_msg": deny_msg}
