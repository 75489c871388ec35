from django.urls import path

from pipeline import views

urlpatterns = [path("messages", views.send), path("messages/<job_id>", views.read), path("own", views.own)]
