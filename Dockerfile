# The example jobs behind the dashboard, on port 8181 of this machine:
#
#   docker build -t goflow .
#   docker run -p 127.0.0.1:8181:8181 -v goflow:/data goflow
#
# It also runs with a root it cannot write to:  --read-only --tmpfs /tmp
#
# The base is pinned to a patch release of Python on a release of Debian, the packages to the versions
# in image/constraints.txt (`make constraints`), and the dashboard's to ui/package-lock.json.

FROM python:3.13.15-slim-trixie AS build
WORKDIR /src
COPY . .
# pip 25.3 and later take constraints for what builds a wheel from a variable of its own.
ENV PIP_CONSTRAINT=/src/image/constraints.txt \
    PIP_BUILD_CONSTRAINT=/src/image/constraints.txt \
    PIP_DISABLE_PIP_VERSION_CHECK=1 \
    PIP_NO_CACHE_DIR=1
RUN python3 -m pip wheel --no-deps --wheel-dir dist .
RUN python3 -m venv /opt/goflow && /opt/goflow/bin/pip install dist/*.whl

FROM python:3.13.15-slim-trixie
COPY --from=build /opt/goflow /opt/goflow
COPY examples /app/examples
RUN useradd --system --uid 10001 --home-dir /data goflow && install -d -m 0700 -o goflow -g goflow /data
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
