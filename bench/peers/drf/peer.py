"""djangorestframework-api-key with one view.

`python peer.py KEYS-FILE COUNT` makes the database and the keys, `gunicorn peer:application` serves; both find the
path of the database in the variable DATABASE.
"""

import os
import sys

import django
from django.conf import settings
from django.core.management import call_command
from django.core.wsgi import get_wsgi_application
from django.urls import path

settings.configure(
    ALLOWED_HOSTS=["*"],
    DATABASES={
        "default": {
            "ENGINE": "django.db.backends.sqlite3",
            "NAME": os.environ["DATABASE"],
            # One connection for all requests, and the quicker of the settings that services use.
            "CONN_MAX_AGE": None,
            "OPTIONS": {"init_command": "PRAGMA journal_mode=WAL; PRAGMA synchronous=NORMAL"},
        }
    },
    INSTALLED_APPS=["rest_framework", "rest_framework_api_key"],
    REST_FRAMEWORK={"DEFAULT_RENDERER_CLASSES": ["rest_framework.renderers.JSONRenderer"], "UNAUTHENTICATED_USER": None},
    ROOT_URLCONF=__name__,
    SECRET_KEY="a secret for measuring, and for nothing else",
)
django.setup()

from rest_framework.authentication import BaseAuthentication  # noqa: E402
from rest_framework.response import Response  # noqa: E402
from rest_framework.views import APIView  # noqa: E402
from rest_framework_api_key.models import APIKey  # noqa: E402
from rest_framework_api_key.permissions import HasAPIKey, KeyParser  # noqa: E402


class Nobody(BaseAuthentication):
    """Knows no users; its header is what makes a refusal 401 instead of 403."""

    def authenticate(self, request):
        return None

    def authenticate_header(self, request):
        return "Bearer"


class BearerParser(KeyParser):
    keyword = "Bearer"


class HasBearer(HasAPIKey):
    key_parser = BearerParser()


class Verify(APIView):
    authentication_classes = [Nobody]
    permission_classes = [HasBearer]

    def get(self, request):
        return Response(headers={"Content-Length": "0"})


urlpatterns = [path("v1/auth/nginx", Verify.as_view())]

if __name__ == "__main__":
    call_command("migrate", verbosity=0)
    keys = [APIKey.objects.create_key(name=f"key {number}")[1] for number in range(int(sys.argv[2]))]
    with open(sys.argv[1], "w", encoding="ascii") as file:
        file.write("\n".join(keys))
else:
    application = get_wsgi_application()
