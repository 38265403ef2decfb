# The example jobs behind the dashboard, on port 8181:
#
#   docker build -t goflow .
#   docker run -p 8181:8181 -v goflow:/data goflow
#
# It also runs with a root it cannot write to:  --read-only --tmpfs /tmp

FROM python:3.13-slim AS build
RUN apt-get update && apt-get install -y --no-install-recommends make && rm -rf /var/lib/apt/lists/*
WORKDIR /src
COPY . .
RUN make wheel PYTHON=python3
RUN python3 -m venv /opt/goflow && /opt/goflow/bin/pip install --no-cache-dir dist/*.whl

FROM python:3.13-slim
COPY --from=build /opt/goflow /opt/goflow
COPY examples /app/examples
RUN useradd --system --uid 10001 --home-dir /data goflow && install -d -o goflow -g goflow /data
ENV PATH=/opt/goflow/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    PYTHONDONTWRITEBYTECODE=1
USER goflow
WORKDIR /data
VOLUME /data
EXPOSE 8181
HEALTHCHECK --interval=10s --timeout=3s --start-period=5s --retries=3 \
    CMD ["python", "-c", "import urllib.request as r; r.urlopen('http://127.0.0.1:8181/api/health', timeout=2)"]
CMD ["goflow", "serve", "/app/examples/main.py", "--host", "0.0.0.0", "--port", "8181"]
