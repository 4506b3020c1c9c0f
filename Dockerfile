# Mail Gateway in a container: an unprivileged user, a root file system that may be read-only, signals as they should be.
# compose.yaml runs it; docs/howto/container.md says what to mount and what to set.
#   configuration  /etc/mail-gateway/gateway.yaml: mount your own. The one inside listens on the container's loopback only.
#   state          /var/lib/mail-gateway: a volume, or the queue is lost with the container.
#   secrets        under /run/secrets, as {file: /run/secrets/NAME}; uid 10025 reads them.
#   scratch        /tmp, where the root file system is read-only: a tmpfs.
# The base is pinned; another one: docker build --build-arg PYTHON=3.13.12-slim-bookworm .
ARG PYTHON=3.13.9-slim-bookworm

FROM python:${PYTHON} AS build
WORKDIR /src
COPY pyproject.toml README.md LICENSE ./
COPY gateway gateway
RUN python -m venv /opt/mail-gateway && /opt/mail-gateway/bin/pip install --no-cache-dir .

FROM python:${PYTHON}
LABEL org.opencontainers.image.title="Mail Gateway" \
      org.opencontainers.image.description="An outbound mail gateway: HTTP and SMTP in, one durable queue, DKIM, out by MX or relay" \
      org.opencontainers.image.licenses="MIT"
RUN useradd --system --user-group --uid 10025 --no-create-home --home-dir /var/lib/mail-gateway --shell /usr/sbin/nologin mail-gateway \
    && install -d -o mail-gateway -g mail-gateway -m 0700 /var/lib/mail-gateway
COPY --from=build /opt/mail-gateway /opt/mail-gateway
COPY etc/gateway.yaml /etc/mail-gateway/gateway.yaml
ENV PATH=/opt/mail-gateway/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    PYTHONDONTWRITEBYTECODE=1
USER mail-gateway
VOLUME /var/lib/mail-gateway
EXPOSE 2525 8025
# What is on the wire is brought to its end within 30 s: stop with `docker stop --time 45`, or as compose.yaml says.
STOPSIGNAL SIGTERM
# Asks the daemon itself by the control socket in its data directory, whatever it listens on and whatever the file says by
# now. A start may have a large queue to migrate: until the first answer, or for an hour, no answer is no failure.
HEALTHCHECK --interval=30s --timeout=10s --start-period=1h --retries=3 CMD ["mail-gateway", "status", "--data-dir", "/var/lib/mail-gateway"]
ENTRYPOINT ["mail-gateway"]
CMD ["serve"]
