# syntax=docker/dockerfile:1

# docker build -t websocktunnel \
#   --build-arg VERSION="$(git describe --tags --always)" \
#   --build-arg COMMIT="$(git rev-parse HEAD)" \
#   --build-arg BUILD="$(git log -1 --format=%cI)" .

# The newest patch release, if nobody asks for a certain one.
ARG GO_VERSION=1.26
FROM --platform=$BUILDPLATFORM golang:$GO_VERSION AS build
WORKDIR /src
# The modules in a layer of their own: they change less often than the code.
COPY go.mod go.sum ./
RUN go mod download
COPY . .
ARG VERSION COMMIT BUILD TARGETOS TARGETARCH
# Static binaries with the build tag http2legacy, as everywhere.
RUN GOOS=$TARGETOS GOARCH=$TARGETARCH ci/build.sh /out

FROM scratch
ARG VERSION COMMIT
LABEL org.opencontainers.image.title="websocktunnel" \
      org.opencontainers.image.description="Reach an HTTP server behind NAT, through a websocket that it dials out" \
      org.opencontainers.image.source="https://github.com/websocktunnel/websocktunnel" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="$VERSION" \
      org.opencontainers.image.revision="$COMMIT"
# wst-client verifies the service's certificate with these.
COPY --from=build /etc/ssl/certs/ca-certificates.crt /etc/ssl/certs/
COPY --from=build /out/websocktunnel /out/wst-client /
COPY LICENSE /
# Nobody in particular. Ports below 1024 are open to every user in a container
# of Docker 20.10 or later; elsewhere set PORT.
USER 65532:65532
# 443 with TLS, 80 without, unless PORT says otherwise. Note that Docker sets
# HOSTNAME to the container's id: set URL_PREFIX, which wins over it.
EXPOSE 80 443
# No HEALTHCHECK: there is no shell and no HTTP client in here. Let the
# orchestrator ask GET /__heartbeat__ (200 while serving, 503 while draining).
ENTRYPOINT ["/websocktunnel"]
# The tunnel client: docker run --entrypoint /wst-client websocktunnel …
