# Helper rules that every policy may use, by the names and with the meaning that Docker's engine
# gives them. They are part of each policy's package.
package docker

# An image that a Docker GitHub builder made from the repository.
docker_github_builder(image, repo) if {
	image.hasProvenance
	some signature in image.signatures
	docker_github_builder_signature(signature, repo)
}

# The same, made from a tag.
docker_github_builder_tag(image, repo, tag) if {
	docker_github_builder(image, repo)
	ref := concat("", ["refs/tags/", tag])
	some signature in image.signatures
	signature.signer.sourceRepositoryRef == ref
}

# A signature by a Docker GitHub builder that ran for the repository.
docker_github_builder_signature(signature, repo) if {
	signature.kind == "docker-github-builder"
	signature.type == "bundle-v0.3"
	count(signature.timestamps) > 0

	signer := signature.signer
	signer.certificateIssuer == "CN=sigstore-intermediate,O=sigstore.dev"
	signer.issuer == "https://token.actions.githubusercontent.com"
	signer.runnerEnvironment == "github-hosted"
	signer.sourceRepositoryURI == concat("", ["https://github.com/", repo])
}

# A download whose bundle, a file beside the policy, such a builder signed.
docker_github_builder_bundle(http, filename, repo) if {
	docker_github_builder_signature(artifact_attestation(http, filename), repo)
}

# The attestation of a download of a GitHub release.
github_release_attestation(http) := signature if {
	http.schema == "https"
	lower(http.host) == "github.com"
	parts := split(http.path, "/")
	count(parts) >= 7
	parts[0] == ""
	parts[1] != ""
	parts[2] != ""
	parts[3] == "releases"
	parts[4] == "download"
	parts[5] != ""
	concat("/", array.slice(parts, 6, count(parts))) != ""
	signature := github_attestation(http, concat("/", [parts[1], parts[2]]))
}
