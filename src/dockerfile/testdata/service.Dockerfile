# syntax=docker/dockerfile:1.7
# escape=\
ARG GO=1.23
ARG REGISTRY=registry.example.com/base

FROM --platform=$BUILDPLATFORM golang:${GO}-alpine AS build
ARG TARGETOS TARGETARCH VERSION=dev
WORKDIR /src
RUN --mount=type=cache,target=/root/.cache \
    --mount=type=bind,from=tools/lint:2,source=/bin,target=/tools \
    go build -o /out/app ./... && \
    # a comment within
    echo done
ADD --checksum=sha256:24454f830cdb571e2c4ad15481119c43b3cafd48dd869a9b2945d1036d1dc68d https://downloads.example.com/v${VERSION}/data.tar.gz /data/
ADD --keep-git-dir=true https://github.com/example/assets.git#v${VERSION%%.*}:static /assets

FROM alpine AS unused
ADD http://unused.example.com/x /

FROM ${REGISTRY}/runtime-$TARGETARCH:1
COPY --from=build /out/app /app
COPY --from=busybox:musl /bin/busybox /bin/
COPY <<-"CONF" /etc/app.conf
	FROM not-a-stage
	CONF
RUN <<ONE cat <<TWO
echo ONE
ONE
ADD https://not.example.com/ /
TWO
HEALTHCHECK --interval=5s CMD ["/app", "ping"]
LABEL org.example=yes
ENTRYPOINT ["/app"]
