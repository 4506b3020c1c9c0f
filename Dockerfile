# The daemon as an unprivileged user; the root file system may be read-only.
#   configuration  /etc/mail-gateway/gateway.yaml: mount your own. The one inside listens on the container's loopback
#                  only; for clients outside give smtp and http listeners on 0.0.0.0 with TLS (or insecure: true and
#                  plaintext_auth: true on a network that is yours).
#   state          /var/lib/mail-gateway: a volume, or the queue is lost with the container
#   secrets        under /run/secrets, as {file: /run/secrets/NAME}
FROM python:3.13-slim AS build
WORKDIR /src
COPY pyproject.toml README.md LICENSE ./
COPY gateway gateway
RUN python -m venv /opt/mail-gateway && /opt/mail-gateway/bin/pip install --no-cache-dir .

FROM python:3.13-slim
RUN useradd --system --uid 10025 --home-dir /var/lib/mail-gateway --shell /usr/sbin/nologin mail-gateway \
    && install -d -o mail-gateway -g mail-gateway -m 0700 /var/lib/mail-gateway
COPY --from=build /opt/mail-gateway /opt/mail-gateway
COPY etc/gateway.yaml /etc/mail-gateway/gateway.yaml
ENV PATH=/opt/mail-gateway/bin:$PATH PYTHONUNBUFFERED=1
USER mail-gateway
VOLUME /var/lib/mail-gateway
EXPOSE 2525 8025
STOPSIGNAL SIGTERM
# Asks an HTTP listener on port 8025 without TLS; a configuration that has none needs its own check.
HEALTHCHECK --interval=30s --timeout=5s --start-period=10s \
    CMD ["python", "-c", "import urllib.request; urllib.request.urlopen('http://127.0.0.1:8025/health/live', timeout=3)"]
ENTRYPOINT ["mail-gateway"]
CMD ["serve"]
